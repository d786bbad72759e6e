"""``python -m services.generator``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.chassis.health import Health
from services.chassis.routing import Router
from services.chassis.server import run_service
from services.chassis.telemetry import Telemetry
from services.generator.engines import open_model
from services.generator.generate import Generate
from services.generator.observed import GeneratorMetrics
from services.generator.servicer import GeneratorServicer
from services.generator.settings import GeneratorSettings
from text4seg.v1.generator_service_pb2_grpc import add_GeneratorServiceServicer_to_server


@asynccontextmanager
async def build(
    settings: GeneratorSettings, router: Router, health: Health, telemetry: Telemetry
) -> AsyncIterator[None]:
    """Load the model and route GeneratorService to it.

    Raises:
        CheckpointError: when the checkpoint is missing, damaged or unknown.
    """
    async with AsyncExitStack() as resources:
        model = await open_model(settings, resources, health, telemetry)
        generate = Generate(model, telemetry.gate(settings.concurrency, settings.queue))
        servicer = GeneratorServicer(generate, settings.request_limits(), GeneratorMetrics(telemetry))
        router.add(add_GeneratorServiceServicer_to_server, servicer)
        yield


if __name__ == "__main__":
    sys.exit(run_service("generator", GeneratorSettings, build))
