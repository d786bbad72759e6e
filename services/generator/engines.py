"""Which engine runs the model: settings in, a text model out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from services.chassis.health import Health
from services.chassis.image_file import ImageLimits, read_image
from services.chassis.telemetry import Telemetry
from services.chassis.worker import ModelThread
from services.generator.checkpoint import read_facts
from services.generator.generate import TextModel
from services.generator.images import ImageReader
from services.generator.scripted_model import ScriptedModel
from services.generator.settings import BUNDLED_CHECKPOINT, GeneratorSettings
from text4seg.errors import CheckpointError

if TYPE_CHECKING:
    from services.generator.triton.model import TritonTextModel


async def open_model(
    settings: GeneratorSettings, resources: AsyncExitStack, health: Health, telemetry: Telemetry | None = None
) -> TextModel:
    """Load the model that the settings name; leaving ``resources`` lets go of it.

    Args:
        settings: of the generator.
        resources: what the model holds.
        health: told whether an engine that runs elsewhere can be reached.
        telemetry: told of calls of such an engine; None: nobody is.

    Raises:
        CheckpointError: when the checkpoint is missing, damaged or unknown.
    """
    limits = ImageLimits(bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    reader = partial(read_image, limits=limits, field="image")
    match settings.engine:
        case "scripted":
            return ScriptedModel(settings.script, reader, delay_s=settings.script_delay_s)
        case "hf":
            thread = await resources.enter_async_context(ModelThread("generator-model"))
            return await thread.run(partial(_load_hf, settings, reader, thread))
        case "triton":
            return await resources.enter_async_context(_triton_model(settings, reader, health, telemetry))


def _triton_model(
    settings: GeneratorSettings, read_image: ImageReader, health: Health, telemetry: Telemetry | None
) -> AbstractAsyncContextManager[TritonTextModel]:
    # Imported here: Triton's client is part of the extra `triton` only.
    from services.generator.triton.model import PEER, open_triton_model

    return open_triton_model(
        settings.triton_url,
        settings.triton_model,
        read_image,
        settings.triton_timeout_s,
        settings.triton_refresh_s,
        partial(health.report, PEER),
        telemetry,
    )


def _load_hf(settings: GeneratorSettings, read_image: ImageReader, thread: ModelThread) -> TextModel:
    if settings.checkpoint == BUNDLED_CHECKPOINT and not settings.checkpoint.exists():
        raise CheckpointError(
            str(settings.checkpoint),
            "the bundled model comes with a clone of the repository, not with an installed package; "
            "set T4S_GENERATOR_CHECKPOINT to its directory models/nano, or to another checkpoint",
        )
    read_facts(settings.checkpoint, settings.adapter)  # a wrong directory is told at once
    # Imported here: torch takes seconds, in which the port answers probes already; the fake does without.
    from services.generator.hf_model import HfTextModel, load_hf_model

    model = load_hf_model(
        settings.checkpoint,
        read_image,
        device=settings.device,
        dtype=settings.dtype,
        adapter=settings.adapter,
        quantization=settings.quantization,
        threads=settings.threads,
        max_tokens=settings.max_tokens,
        image_cache=settings.image_cache,
    )
    return HfTextModel(model, thread)
