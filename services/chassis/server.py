"""The life of a server: bind, answer probes, load, serve, drain, exit."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.chassis.health import Health
from services.chassis.interceptors import CallInterceptor
from services.chassis.logs import configure_logs
from services.chassis.routing import Router
from services.chassis.settings import ServerSettings, split_address
from services.chassis.telemetry import Telemetry
from services.chassis.tls import TlsFiles, server_credentials
from services.chassis.tracing import TracingUnavailableError, open_tracer
from text4seg.errors import ServiceUnavailableError, Text4SegError

Settings = TypeVar("Settings", bound=ServerSettings)

Build = Callable[[Settings, Router, Health, Telemetry], AbstractAsyncContextManager[None]]
"""Makes a service and takes it down again; usually a function under ``contextlib.asynccontextmanager``.

Before its ``yield`` it loads the model (in a thread: probes are answered meanwhile), adds servicers with
``router.add(add_XServicer_to_server, servicer)``, may report facts to ``health`` and declare metrics through
``telemetry``. What follows the ``yield`` runs after the last call has ended.
"""

_log = logging.getLogger(__name__)


class StartupError(Exception):
    """The service cannot start, for a reason that its operator can mend; the message is one line."""


class RunningService:
    """A server whose port is bound; made by ``start_server``."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        health: Health,
        servers: Sequence[grpc.aio.Server],
        drain_s: float,
        telemetry: Telemetry,
    ) -> None:
        self.name = name
        self.port = port
        """The port that is bound."""
        self.address = f"{host}:{port}"
        """``host:port`` to connect to."""
        self.health = health
        self.metrics_address = ""
        """``host:port`` where metrics are served; empty when they are not."""
        self._telemetry = telemetry
        self._stop_metrics: Callable[[], None] | None = None
        self._servers = servers
        self._drain_s = drain_s
        self._stopping = asyncio.Event()
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._life: asyncio.Task[None] | None = None

    async def wait_serving(self) -> None:
        """Return once the service answers calls.

        Raises:
            Exception: what its build raised.
            ServiceUnavailableError: it was stopped first.
        """
        await asyncio.shield(self._loaded)

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, let those in flight end, and take the service down.

        Args:
            grace_s: seconds that calls in flight get; None takes the service's setting.

        Raises:
            Exception: what its build raised while taking the service down.
        """
        self.health.close()
        main, *probes = self._servers
        await main.stop(self._drain_s if grace_s is None else grace_s)
        for server in probes:
            await server.stop(None)
        self._stopping.set()
        if self._life is not None:
            if not self._loaded.done():
                self._life.cancel()
            await asyncio.wait([self._life])
        await self._telemetry.aclose()
        if self._stop_metrics is not None:
            stop, self._stop_metrics = self._stop_metrics, None
            await asyncio.to_thread(stop)
        if self._life is not None:
            self._life.result()

    def serve_metrics(self, address: str) -> None:
        """Serve the metrics at ``address``, to the end of the service.

        Raises:
            StartupError: the address is taken, or not ours.
        """
        try:
            self.metrics_address, self._stop_metrics = self._telemetry.metrics.serve(address)
        except OSError as error:
            raise StartupError(f"cannot serve metrics on {address}: {error.strerror or error}") from error

    def begin(self, context: AbstractAsyncContextManager[None], opened: Callable[[], None]) -> None:
        """Load the service in a task that also takes it down: contexts are left by the task that entered."""

        async def live() -> None:
            try:
                async with context:
                    opened()
                    self._loaded.set_result(None)
                    await self._stopping.wait()
            except BaseException as error:
                if self._loaded.done():
                    raise
                if isinstance(error, asyncio.CancelledError):
                    error = ServiceUnavailableError("the service was stopped while it was loading")
                self._loaded.set_exception(error)
                self._loaded.exception()  # seen, whether or not anybody waits

        self._life = asyncio.create_task(live(), name=f"{self.name} lifetime")


async def start_server(name: str, settings: Settings, build: Build[Settings]) -> RunningService:
    """Bind the port, answer probes with NOT_SERVING, and begin to build the service.

    Returns at once; ``wait_serving`` waits for the build.

    Args:
        name: what the service is called in logs.
        settings: where and how to serve.
        build: see ``Build``.

    Raises:
        StartupError: an address is taken or not ours, a TLS file is unusable, or OpenTelemetry is missing.
    """
    began = time.monotonic()
    try:
        telemetry = Telemetry(name, open_tracer(name, settings.otlp_endpoint, settings.trace_ratio))
    except TracingUnavailableError as error:
        raise StartupError(str(error)) from error
    router = Router()
    health = Health(knows=lambda service: service in router.service_names)
    telemetry.facts(lambda: health.facts)
    router.add(health_pb2_grpc.add_HealthServicer_to_server, health)
    server = grpc.aio.server(
        handlers=[router],
        interceptors=[CallInterceptor(telemetry, settings.accepted_keys(), router.knows)],
        options=_options(settings),
    )
    port = _bind(server, settings.address, _credentials(settings))
    servers = [server]
    if settings.health_address:
        probes = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(health, probes)
        _bind(probes, settings.health_address, None)
        servers.append(probes)
    host, _ = split_address(settings.address)
    running = RunningService(name, host, port, health, servers, settings.drain_s, telemetry)
    if settings.metrics_address:
        running.serve_metrics(settings.metrics_address)
    for each in servers:
        await each.start()
    fields = {"name": name, "address": running.address, "metrics": running.metrics_address}
    _log.info("listening", extra={"fields": {key: value for key, value in fields.items() if value}})

    def opened() -> None:
        if settings.channelz:
            router.add(channelz_pb2_grpc.add_ChannelzServicer_to_server, channelz.aio.ChannelzServicer())  # type: ignore[attr-defined]
        if settings.reflection:
            names = (*router.service_names, reflection.SERVICE_NAME)
            servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]
            router.add(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer)
        router.open()
        health.report("started", True)
        telemetry.loaded(time.monotonic() - began)
        _log.info("serving", extra={"fields": {"name": name, "services": router.service_names}})

    running.begin(build(settings, router, health, telemetry), opened)
    return running


def run_service(
    name: str, settings_type: type[Settings], build: Build[Settings], arguments: Sequence[str] | None = None
) -> int:
    """Run one service until it is told to stop; the whole of a service's ``__main__``.

    Settings come from the environment and, before it, from the command line (``--help`` lists them).

    Args:
        name: what the service is called, for example ``"generator"``.
        settings_type: the service's settings class.
        build: see ``Build``.
        arguments: command line without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 when the service could not start.
    """

    async def start() -> Sequence[RunningService]:
        settings = settings_type(  # type: ignore[call-arg]  # the command line is not a field
            _cli_parse_args=sys.argv[1:] if arguments is None else list(arguments),
            _cli_prog_name=f"python -m services.{name}",
        )
        configure_logs(name, settings.log_level)
        return [await start_server(name, settings, build)]

    return run_services(name, start)


def run_services(name: str, start: Callable[[], Awaitable[Sequence[RunningService]]]) -> int:
    """Run services in this process until SIGTERM or SIGINT; a second signal ends calls in flight.

    Args:
        name: what to call the process in an error.
        start: starts the services; they are stopped one after the other in the order returned, so those that
            call others come first.

    Returns:
        The exit code: 0 after a signal, 1 when a service could not start (a line on standard error says why).
    """
    try:
        asyncio.run(_run(start))
    except (StartupError, Text4SegError, ValidationError, SettingsError) as error:
        print(f"{name}: cannot start: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


async def _run(start: Callable[[], Awaitable[Sequence[RunningService]]]) -> None:
    loop = asyncio.get_running_loop()
    told = [asyncio.Event(), asyncio.Event()]

    def tell() -> None:
        told[1 if told[0].is_set() else 0].set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    running = await start()
    stop, hurry = (asyncio.create_task(event.wait()) for event in told)
    serving = asyncio.gather(*(service.wait_serving() for service in running))
    try:
        await _first_of(serving, stop)
        if serving.done():
            serving.result()
            await stop
        _log.info("draining")
        draining = asyncio.create_task(_stop_all(running))
        await _first_of(draining, hurry)
        if not draining.done():
            await _stop_all(running, 0.0)
        await draining
    finally:
        serving.cancel()
        stop.cancel()
        hurry.cancel()
        await _stop_all(running, 0.0)
        await asyncio.gather(serving, return_exceptions=True)  # told to stop while loading: no news
    _log.info("stopped")


async def _first_of(*waits: asyncio.Future[Any]) -> None:
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)


async def _stop_all(services: Sequence[RunningService], grace_s: float | None = None) -> None:
    for service in services:
        await service.stop(grace_s)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    keepalive_ms = int(settings.keepalive_s * 1000)
    age_ms = int(settings.connection_age_s * 1000)
    return [
        *([("grpc.max_connection_age_ms", age_ms)] if age_ms else []),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        # A caller may ping as often as we do, twice over, before it is told to calm down.
        ("grpc.http2.min_ping_interval_without_data_ms", keepalive_ms // 2),
        ("grpc.enable_channelz", int(settings.channelz)),
        # Otherwise a second process takes half of the first one's connections instead of failing.
        ("grpc.so_reuseport", 0),
    ]


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    try:
        return server_credentials(
            TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        )
    except OSError as error:
        raise StartupError(f"the TLS files cannot be used: {error}") from error


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {address}: is another process using it?") from error


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        )
    return " ".join(str(error).split())
