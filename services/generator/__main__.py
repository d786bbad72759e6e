"""``python -m services.generator``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from services.chassis.admission import Gate
from services.chassis.health import Health
from services.chassis.image_file import ImageLimits, read_image
from services.chassis.routing import Router
from services.chassis.server import run_service
from services.chassis.worker import ModelThread
from services.generator.checkpoint import read_facts
from services.generator.generate import Generate, TextModel
from services.generator.images import ImageReader
from services.generator.scripted_model import ScriptedModel
from services.generator.servicer import GeneratorServicer
from services.generator.settings import BUNDLED_CHECKPOINT, GeneratorSettings
from text4seg.errors import CheckpointError
from text4seg.segmentation import Limits
from text4seg.v1.generator_service_pb2_grpc import add_GeneratorServiceServicer_to_server


@asynccontextmanager
async def build(settings: GeneratorSettings, router: Router, health: Health) -> AsyncIterator[None]:
    """Load the model and route GeneratorService to it.

    Raises:
        CheckpointError: when the checkpoint is missing, damaged or unknown.
    """
    limits = ImageLimits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    async with AsyncExitStack() as resources:
        model = await _load(settings, partial(read_image, limits=limits, field="image"), resources)
        generate = Generate(model, Gate(settings.concurrency, settings.queue))
        # Conversations are the orchestrator's to limit: these only bound what one request can cost.
        requests = Limits(
            image_bytes=limits.bytes,
            image_pixels=limits.pixels,
            phrases=1024,
            turns=1024,
            conversation_characters=1 << 20,
        )
        servicer = GeneratorServicer(generate, requests)
        router.add(add_GeneratorServiceServicer_to_server, servicer)
        yield


async def _load(settings: GeneratorSettings, read_image: ImageReader, resources: AsyncExitStack) -> TextModel:
    if settings.engine == "scripted":
        return ScriptedModel(settings.script, read_image, delay_s=settings.script_delay_s)
    thread = await resources.enter_async_context(ModelThread("generator-model"))
    return await thread.run(partial(_load_hf, settings, read_image, thread))


def _load_hf(settings: GeneratorSettings, read_image: ImageReader, thread: ModelThread) -> TextModel:
    if settings.checkpoint == BUNDLED_CHECKPOINT and not settings.checkpoint.exists():
        raise CheckpointError(
            str(settings.checkpoint),
            "the bundled model comes with a clone of the repository, not with an installed package; "
            "set T4S_GENERATOR_CHECKPOINT to its directory models/nano, or to another checkpoint",
        )
    read_facts(settings.checkpoint)  # a wrong directory is told at once
    # Imported here: torch takes seconds, in which the port answers probes already; the fake does without.
    from services.generator.hf_model import HfTextModel, load_hf_model

    model = load_hf_model(
        settings.checkpoint,
        read_image,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        max_tokens=settings.max_tokens,
        image_cache=settings.image_cache,
    )
    return HfTextModel(model, thread)


if __name__ == "__main__":
    sys.exit(run_service("generator", GeneratorSettings, build))
