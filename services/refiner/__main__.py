"""``python -m services.refiner``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from services.chassis.health import Health
from services.chassis.image_file import ImageLimits, read_image
from services.chassis.routing import Router
from services.chassis.server import run_service
from services.chassis.telemetry import Telemetry
from services.chassis.worker import ModelThread
from services.refiner.models import load_models
from services.refiner.refine import EmbeddingMemory, MaskModel, Refine
from services.refiner.servicer import RefinerServicer
from services.refiner.settings import RefinerSettings
from text4seg.errors import CheckpointError
from text4seg.segmentation import Limits
from text4seg.v1.refiner_service_pb2_grpc import add_RefinerServiceServicer_to_server


@asynccontextmanager
async def build(
    settings: RefinerSettings, router: Router, health: Health, telemetry: Telemetry
) -> AsyncIterator[None]:
    """Load the models and route RefinerService to them.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unknown, or a second one of its kind.
    """
    limits = ImageLimits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    async with AsyncExitStack() as resources:
        remote = await _open_remote(settings, resources, health, telemetry)
        thread = await resources.enter_async_context(ModelThread("refiner-model"))
        refine = Refine(
            _in_order(settings, remote, await thread.run(partial(load_models, settings))),
            partial(read_image, limits=limits, field="image"),
            thread,
            telemetry.gate(settings.concurrency, settings.queue),
            EmbeddingMemory(settings.embedding_cache_bytes),
        )
        router.add(
            add_RefinerServiceServicer_to_server,
            RefinerServicer(
                refine, Limits(image_bytes=limits.bytes, image_pixels=limits.pixels), telemetry.stages
            ),
        )
        yield


async def _open_remote(
    settings: RefinerSettings, resources: AsyncExitStack, health: Health, telemetry: Telemetry
) -> dict[str, MaskModel]:
    """Wait for Triton where a model runs there; the service is not serving meanwhile."""
    if "triton" not in settings.kinds:
        return {}
    # Imported here: Triton's client is part of the extra `triton` only.
    from services.refiner.triton_model import PEER, open_triton_models

    default = settings.model == "triton"  # what is extra does not decide whether the service is well
    models = await resources.enter_async_context(
        open_triton_models(
            settings.triton_url,
            settings.triton_model,
            settings.triton_timeout_s,
            settings.triton_refresh_s,
            partial(health.report, PEER) if default else lambda reachable: None,
            telemetry,
        )
    )
    return {model.name: model for model in models}


def _in_order(
    settings: RefinerSettings, remote: dict[str, MaskModel], local: dict[str, MaskModel]
) -> dict[str, MaskModel]:
    for name in remote.keys() & local.keys():
        raise CheckpointError(name, "runs in Triton and in this process: leave one of them out")
    return {**remote, **local} if settings.model == "triton" else {**local, **remote}


if __name__ == "__main__":
    sys.exit(run_service("refiner", RefinerSettings, build))
