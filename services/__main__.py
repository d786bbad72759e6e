"""``python -m services``: generator, refiner and orchestrator in one process, over loopback gRPC.

The command line and ``T4S_ORCHESTRATOR_*`` are the orchestrator's; ``T4S_GENERATOR_*`` and ``T4S_REFINER_*``
set up the other two. An empty refiner address (``--refiner-address=``) leaves the refiner out.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from services.chassis.health import Health
from services.chassis.logs import configure_logs
from services.chassis.routing import Router
from services.chassis.server import RunningService, StartupError, run_services, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from services.generator.__main__ import build as build_generator
from services.generator.settings import GeneratorSettings
from services.orchestrator.__main__ import build as build_orchestrator
from services.orchestrator.settings import OrchestratorSettings
from services.refiner.__main__ import build as build_refiner
from services.refiner.settings import RefinerSettings

Settings = TypeVar("Settings", bound=ServerSettings)

_ANY_LOOPBACK_PORT = {"address": "127.0.0.1:0"}


async def start(
    orchestrator: OrchestratorSettings, generator: GeneratorSettings, refiner: RefinerSettings
) -> Sequence[RunningService]:
    """Start all three services; the orchestrator is told where the other two listen, and opens after them.

    Generator and refiner take any free loopback port unless their address was set. There is no refiner when
    the orchestrator's settings say so, with an empty address.

    Returns:
        The services in the order in which to stop them: the one that calls the others first.

    Raises:
        StartupError: an address cannot be used, or the orchestrator is told to use another peer.
    """
    _check_peers(orchestrator)
    async with AsyncExitStack() as started:

        async def keep(service: RunningService) -> RunningService:
            started.push_async_callback(service.stop, 0.0)
            return service

        generating = await keep(await start_server("generator", _inner(generator), build_generator))
        peers = {"generator_address": generating.address}
        services = [generating]
        if orchestrator.refiner_address:
            refining = await keep(await start_server("refiner", _inner(refiner), build_refiner))
            peers["refiner_address"] = refining.address
            services.append(refining)

        @asynccontextmanager
        async def build(
            settings: OrchestratorSettings, router: Router, health: Health, telemetry: Telemetry
        ) -> AsyncIterator[None]:
            for peer in services:  # until then calls are told that models are loading
                await peer.wait_serving()
            async with build_orchestrator(settings, router, health, telemetry):
                yield

        settings = orchestrator.model_copy(update=peers)
        orchestrating = await keep(await start_server("orchestrator", settings, build))
        started.pop_all()  # from here on the caller stops them
        return [orchestrating, *services]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop. The command line takes the orchestrator's settings.

    Args:
        arguments: command line without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 when a service could not start.
    """

    async def begin() -> Sequence[RunningService]:
        orchestrator = OrchestratorSettings(  # type: ignore[call-arg]
            _cli_parse_args=sys.argv[1:] if arguments is None else list(arguments),
            _cli_prog_name="python -m services",
        )
        configure_logs("services", orchestrator.log_level)
        return await start(orchestrator, GeneratorSettings(), RefinerSettings())

    return run_services("services", begin)


def _check_peers(settings: OrchestratorSettings) -> None:
    for name in ("generator_address", "refiner_address"):
        if name in settings.model_fields_set and getattr(settings, name):
            raise StartupError(
                f"{name}: all services run in this process; to use another {name.partition('_')[0]}, "
                "run `python -m services.orchestrator`"
            )


def _inner(settings: Settings) -> Settings:
    chosen = "address" in settings.model_fields_set
    return settings if chosen else settings.model_copy(update=_ANY_LOOPBACK_PORT)


if __name__ == "__main__":
    sys.exit(main())
