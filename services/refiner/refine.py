"""Use case: sharpen coarse masks against their image."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from text4seg.errors import OptionInvalidError
from text4seg.masks import upsample
from text4seg.metrics import iou
from text4seg.segmentation import RefineAnswer, RefinedMask, RefineRequest, RefinerInfo

Result = TypeVar("Result")

ImageReader = Callable[[bytes], NDArray[np.uint8]]
"""Decodes an image file to uint8 RGB [height, width, 3], upright; raises ImageInvalidError."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """An image as a model takes it, for any number of masks.

    Attributes:
        image_size: (height, width) of the upright original image, in pixels.
        content: whatever the model makes of an image; only that model reads it, and nobody changes it.
        nbytes: what keeping it costs.
    """

    image_size: tuple[int, int]
    content: Any
    nbytes: int


@dataclass(frozen=True, slots=True, eq=False)
class SharpMask:
    """A model's answer for one coarse mask.

    Attributes:
        mask: bool [height, width] of the upright original image, never empty.
        score: the model's own estimate of the mask's quality, 0 to 1.
    """

    mask: NDArray[np.bool_]
    score: float


class MaskModel(Protocol):
    """Sharpens masks: the expensive step, once per image, is apart from the cheap one, once per mask.

    Used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """What callers ask for, for example ``grabcut`` or ``sam-vit-b``."""
        ...

    @property
    def version(self) -> str:
        """Identifies weights and steps: one version gives one answer to the same question."""
        ...

    @property
    def batch(self) -> int:
        """Most masks that one call of ``decode`` is given; no caller who leaves stops a call half-way."""
        ...

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image, uint8 RGB [height, width, 3] with at least one pixel; it is left unchanged."""
        ...

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Sharpen masks, each as if it were alone; the same arguments give the same answer.

        Args:
            embedding: what ``embed`` of this model returned.
            coarse: one to ``batch`` arrays, float32 [rows, cols] over the whole image, 0 to 1: coarse masks
                or maps of probabilities, each with a cell of at least 0.5. They are left unchanged.
            seed: not negative; of whatever the model draws, for every mask anew.

        Returns:
            One mask for each, in order.
        """
        ...


class Admission(Protocol):
    """Decides who may use the model, and when."""

    def slot(self) -> AbstractAsyncContextManager[float]:
        """Hold a place; yields the seconds spent waiting. Raises OverloadedError when too many wait."""
        ...


class Worker(Protocol):
    """Where blocking work runs, one piece at a time."""

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` off the event loop and return its result."""
        ...


def upsample_coarse(coarse: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the best guess at a mask that needs no look at the image.

    Probabilities are interpolated between cell centres and cut above 0.5. A cell of at least 0.5 that leaves
    no pixel that way (alone, in a small image) keeps the pixel at its centre, so that nothing found is lost.

    Args:
        coarse: float32 [rows, cols], 0 to 1.
        size: (height, width) in pixels.

    Returns:
        bool [height, width]; empty only if no cell reaches 0.5.
    """
    mask: NDArray[np.bool_] = upsample(coarse, size, "bilinear") > 0.5
    if not mask.any():
        found = np.argwhere(coarse >= 0.5)
        centres = (2 * found + 1) * np.array(size) // (2 * np.array(coarse.shape))
        mask[centres[:, 0], centres[:, 1]] = True
    return mask


class EmbeddingMemory:
    """The last few embeddings, by the content of their image files, within a number of bytes.

    For use by one thread. An embedding that is larger than the limit by itself is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._kept: OrderedDict[tuple[str, bytes], Embedding] = OrderedDict()

    def get(self, model: str, file: bytes, make: Callable[[], Embedding]) -> Embedding:
        """Return a model's embedding of an image file; what ``make`` raises is raised and not remembered."""
        key = (model, hashlib.sha256(file).digest())
        embedding = self._kept.get(key)
        if embedding is None:
            embedding = make()
            if embedding.nbytes > self._max_bytes:
                return embedding
            self._kept[key] = embedding
            self._used += embedding.nbytes
        self._kept.move_to_end(key)
        while self._used > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._used -= dropped.nbytes
        return embedding


class Refine:
    """Queues for the model, encodes the image once and sharpens its masks, several at once if the model can.

    Args:
        models: by name, the default first; at least one.
        read_image: decodes image files.
        worker: where the models run.
        admission: the queue in front of them.
        memory: embeddings of recent images; used by the worker only.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        models: Mapping[str, MaskModel],
        read_image: ImageReader,
        worker: Worker,
        admission: Admission,
        memory: EmbeddingMemory,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._models = models
        self._default = next(iter(models))
        self._read_image = read_image
        self._worker = worker
        self._admission = admission
        self._memory = memory
        self._clock = clock

    @property
    def info(self) -> RefinerInfo:
        """The loaded models."""
        versions = tuple(model.version for model in self._models.values())
        return RefinerInfo(self._default, versions[0], tuple(self._models), versions)

    async def __call__(self, request: RefineRequest) -> RefineAnswer:
        """Return one mask per coarse mask, in order.

        An empty coarse mask (no cell of at least 0.5) gives an empty mask, without asking the model. When the
        caller is cancelled, the masks in the works are the last ones.

        Raises:
            OptionInvalidError: no model of that name is loaded.
            ImageInvalidError: the image cannot be read.
            OverloadedError: too many calls wait already.
        """
        model = self._model(request.model)
        async with self._admission.slot() as queue_s:
            embedding, embed_s = await self._worker.run(
                partial(self._timed, partial(self._embed, model, request.image))
            )
            found = [index for index, coarse in enumerate(request.coarse) if (coarse >= 0.5).any()]
            nothing = RefinedMask(np.zeros(embedding.image_size, dtype=np.bool_), 1.0, 1.0)
            masks, decode_s = [nothing] * len(request.coarse), 0.0
            for begin in range(0, len(found), model.batch):
                at = found[begin : begin + model.batch]
                some = [request.coarse[index] for index in at]
                sharp, seconds = await self._worker.run(
                    partial(self._timed, partial(_sharpen, model, embedding, some, request.seed))
                )
                decode_s += seconds
                for index, mask in zip(at, sharp, strict=True):
                    masks[index] = mask
        return RefineAnswer(tuple(masks), model.name, queue_s, embed_s, decode_s)

    def _model(self, name: str) -> MaskModel:
        model = self._models.get(name or self._default)
        if model is None:
            raise OptionInvalidError("model", f"{name!r} is not one of: {', '.join(self._models)}")
        return model

    def _embed(self, model: MaskModel, file: bytes) -> Embedding:
        return self._memory.get(model.name, file, lambda: model.embed(self._read_image(file)))

    def _timed(self, function: Callable[[], Result]) -> tuple[Result, float]:
        begin = self._clock()
        result = function()
        return result, self._clock() - begin


def _sharpen(
    model: MaskModel, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
) -> list[RefinedMask]:
    return [
        RefinedMask(sharp.mask, sharp.score, iou(sharp.mask, upsample_coarse(cells, embedding.image_size)))
        for sharp, cells in zip(model.decode(embedding, coarse, seed), coarse, strict=True)
    ]
