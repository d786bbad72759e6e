"""``python -m services.refiner``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from services.chassis.admission import Gate
from services.chassis.health import Health
from services.chassis.image_file import ImageLimits, read_image
from services.chassis.routing import Router
from services.chassis.server import run_service
from services.chassis.worker import ModelThread
from services.refiner.identity_model import IdentityModel
from services.refiner.refine import EmbeddingMemory, MaskModel, Refine
from services.refiner.servicer import RefinerServicer
from services.refiner.settings import ModelKind, RefinerSettings
from text4seg.errors import CheckpointError
from text4seg.segmentation import Limits
from text4seg.v1.refiner_service_pb2_grpc import add_RefinerServiceServicer_to_server


@asynccontextmanager
async def build(settings: RefinerSettings, router: Router, health: Health) -> AsyncIterator[None]:
    """Load the models and route RefinerService to them.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unknown, or a second one of its kind.
    """
    limits = ImageLimits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    async with ModelThread("refiner-model") as thread:
        refine = Refine(
            await thread.run(partial(load_models, settings)),
            partial(read_image, limits=limits, field="image"),
            thread,
            Gate(settings.concurrency, settings.queue),
            EmbeddingMemory(settings.embedding_cache_bytes),
        )
        router.add(
            add_RefinerServiceServicer_to_server,
            RefinerServicer(refine, Limits(image_bytes=limits.bytes, image_pixels=limits.pixels)),
        )
        yield


def load_models(settings: RefinerSettings) -> dict[str, MaskModel]:
    """Load what the settings ask for: models by name, the default first.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unknown, or a second one of its kind.
    """
    # Imported where they are used: only what was chosen has to be installed, and torch takes seconds.
    if settings.threads and {"sam", "light"} & set(settings.kinds):
        import torch

        torch.set_num_threads(settings.threads)
    models: dict[str, MaskModel] = {}
    for kind in settings.kinds:
        for checkpoint, model in _load(kind, settings):
            if model.name in models:
                raise CheckpointError(str(checkpoint), f"another file holds a {model.name} already")
            models[model.name] = model
    return models


def _load(kind: ModelKind, settings: RefinerSettings) -> Iterator[tuple[Path | None, MaskModel]]:
    """Yield the models of a kind, each with its checkpoint."""
    if kind == "sam":
        from services.refiner.sam_model import MaskPrompt, load_sam

        prompt = MaskPrompt(settings.sam_mask_prompt)
        for checkpoint in settings.sam_checkpoints:
            yield checkpoint, load_sam(checkpoint, settings.device, prompt, settings.sam_batch)
    elif kind == "light" and settings.light_checkpoint is not None:
        from services.refiner.light_model import load_light

        yield settings.light_checkpoint, load_light(settings.light_checkpoint, settings.device)
    elif kind == "grabcut":
        from services.refiner.grabcut_model import GrabCutModel

        yield None, GrabCutModel()
    elif kind == "identity":
        yield None, IdentityModel()


if __name__ == "__main__":
    sys.exit(run_service("refiner", RefinerSettings, build))
