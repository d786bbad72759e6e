"""``python -m services.refiner``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

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
from text4seg.segmentation import Limits
from text4seg.v1.refiner_service_pb2_grpc import add_RefinerServiceServicer_to_server


@asynccontextmanager
async def build(settings: RefinerSettings, router: Router, health: Health) -> AsyncIterator[None]:
    """Load the models and route RefinerService to them.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or unknown.
    """
    limits = ImageLimits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    async with ModelThread("refiner-model") as thread:
        models = [await thread.run(partial(_load, kind, settings)) for kind in settings.kinds]
        refine = Refine(
            {model.name: model for model in models},
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


def _load(kind: ModelKind, settings: RefinerSettings) -> MaskModel:
    # Imported here: only what was chosen has to be installed, and torch takes seconds.
    if kind == "sam" and settings.sam_checkpoint is not None:
        from services.refiner.sam_model import MaskPrompt, load_sam

        prompt = MaskPrompt(settings.sam_mask_prompt)
        return load_sam(settings.sam_checkpoint, settings.device, prompt, settings.threads)
    if kind == "grabcut":
        from services.refiner.grabcut_model import GrabCutModel

        return GrabCutModel()
    return IdentityModel()


if __name__ == "__main__":
    sys.exit(run_service("refiner", RefinerSettings, build))
