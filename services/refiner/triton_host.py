"""The refiner's models inside Triton: masks in, masks out, for ``deploy/triton/models/sam/1/model.py``.

Nothing of Triton is imported. Triton's own queue is in front of it, and calls come one after the other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.refiner.models import load_models
from services.refiner.refine import EmbeddingMemory
from services.refiner.settings import RefinerSettings
from text4seg import wire
from text4seg.errors import InternalError, OptionInvalidError, ServiceUnavailableError, Text4SegError

_LOG = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray[Any]]


class RefinerHost:
    """Loads the models and answers calls, for use by one thread.

    Args:
        settings: of the refiner; what concerns its server is not used.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unknown, or a second one of its kind.
        ValueError: a model is ``triton``, which would ask itself.
    """

    def __init__(self, settings: RefinerSettings) -> None:
        if "triton" in settings.kinds:
            raise ValueError("a model inside Triton cannot be the model triton: set its parameter model")
        self._models = load_models(settings)
        self._memory = EmbeddingMemory(settings.embedding_cache_bytes)
        _LOG.info("loaded", extra={"fields": {"models": [each.version for each in self._models.values()]}})

    def answer(self, inputs: Tensors, cancelled: Callable[[], bool]) -> Tensors:
        """Answer one call.

        Args:
            inputs: ``image`` uint8 [height, width, 3], upright; ``coarse`` float32 [masks, rows, columns] as
                :meth:`~services.refiner.refine.MaskModel.decode` takes them, any number; ``seed`` int64 [1];
                ``model`` bytes [1], its name, or nothing for the default. Or ``return_model_info``.
            cancelled: says whether the caller has left; asked between steps of the model.

        Returns:
            ``masks`` uint8 [masks, bytes]: the bits of each mask, row by row, the first one highest;
            ``scores`` float32 [masks]. Or ``model_info``: JSON.

        Raises:
            Text4SegError: the call cannot be answered.
        """
        try:
            if inputs.get("return_model_info", np.zeros(1)).any():
                return {"model_info": np.array([self._info().encode()], dtype=np.object_)}
            return self._sharpen(inputs, cancelled)
        except Text4SegError:
            raise
        except Exception as error:
            _LOG.exception("unhandled")
            raise InternalError(f"{type(error).__name__}: {error}") from error

    def _info(self) -> str:
        models = [
            {"name": model.name, "version": model.version, "batch": model.batch}
            for model in self._models.values()
        ]
        return json.dumps(models)

    def _sharpen(self, inputs: Tensors, cancelled: Callable[[], bool]) -> Tensors:
        name = inputs["model"][0].decode() if "model" in inputs else next(iter(self._models))
        if name not in self._models:
            raise OptionInvalidError("model", f"{name!r} is not one of: {', '.join(self._models)}")
        model = self._models[name]
        image, coarse = _checked(inputs)
        embedding = self._memory.get(name, image.tobytes(), partial(model.embed, image))
        seed = int(inputs["seed"][0]) if "seed" in inputs else 0
        masks: list[NDArray[np.uint8]] = []
        scores: list[float] = []
        for begin in range(0, len(coarse), model.batch):
            if cancelled():
                raise ServiceUnavailableError("the caller has left")
            for sharp in model.decode(embedding, list(coarse[begin : begin + model.batch]), seed):
                masks.append(np.packbits(sharp.mask))
                scores.append(sharp.score)
        return {"masks": np.stack(masks), "scores": np.array(scores, dtype=np.float32)}


def error_text(error: Text4SegError) -> tuple[str, str]:
    """Return the name of Triton's code for an error, and its text."""
    invalid = isinstance(error, OptionInvalidError)
    unavailable = isinstance(error, ServiceUnavailableError)
    code = "INVALID_ARG" if invalid else "UNAVAILABLE" if unavailable else "INTERNAL"
    return code, wire.error_to_text(error)


def _checked(inputs: Tensors) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    if "image" not in inputs or "coarse" not in inputs:
        raise OptionInvalidError("image" if "image" not in inputs else "coarse", "is missing")
    image, coarse = inputs["image"], inputs["coarse"]
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise OptionInvalidError("image", f"must be [height, width, 3], not {list(image.shape)}")
    if coarse.ndim != 3 or not coarse.size:
        raise OptionInvalidError("coarse", f"must be [masks, rows, columns], not {list(coarse.shape)}")
    if not ((coarse >= 0) & (coarse <= 1)).all() or not (coarse >= 0.5).any(axis=(1, 2)).all():
        raise OptionInvalidError("coarse", "must be 0 to 1, each with a cell of at least 0.5")
    return image, coarse
