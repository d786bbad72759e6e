"""A service from start to exit: probes while it loads, drain on SIGTERM, one line when it cannot start."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.health import Health
from services.chassis.routing import Router
from services.chassis.server import RunningService, StartupError, run_service, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from text4seg.errors import CheckpointError, ServiceUnavailableError

ROOT = Path(__file__).parents[2]
Status = health_pb2.HealthCheckResponse
SCRIPT = '''
"""A service for tests: Slow.Call answers once the file exists that the request names."""
import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from services.chassis.server import run_service
from services.chassis.settings import ServerSettings
from text4seg.errors import CheckpointError


class Settings(ServerSettings):
    fail: str = ""


async def slow(request, context):
    print('{"message": "called"}', flush=True)
    while not Path(request.decode()).exists():
        await asyncio.sleep(0.01)
    return b"done"


def add(servicer, server):
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(slow)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Slow", handlers)])
    server.add_registered_method_handlers("test.Slow", handlers)


@asynccontextmanager
async def build(settings, router, health, telemetry):
    if settings.fail == "checkpoint":
        raise CheckpointError("models/none", "there is no config.json")
    if settings.fail == "hang":
        await asyncio.Event().wait()
    router.add(add, None)
    yield
    print('{"message": "taken down"}', flush=True)


sys.exit(run_service("slow", Settings, build))
'''


def add_echo(servicer: object, server: Any) -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    handlers = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    server.add_registered_method_handlers("test.Echo", handlers)


class SlowLoad:
    """A build that waits until it is told that its model is there, and notes when it is taken down."""

    def __init__(self) -> None:
        self.model_is_there = asyncio.Event()
        self.taken_down = False
        self.health: Health | None = None

    @asynccontextmanager
    async def __call__(
        self, settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
    ) -> AsyncIterator[None]:
        self.health = health
        await self.model_is_there.wait()
        router.add(add_echo, None)
        yield
        self.taken_down = True


@asynccontextmanager
async def started(load: SlowLoad, **settings: Any) -> AsyncIterator[RunningService]:
    service = await start_server("echo", ServerSettings(**settings), load)
    try:
        yield service
    finally:
        await service.stop(0)


async def check(channel: grpc.aio.Channel, service: str = "") -> str:
    response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return Status.ServingStatus.Name(response.status)


async def test_a_loading_service_is_probed_and_refuses_calls_until_it_serves() -> None:
    load = SlowLoad()
    async with started(load) as service, grpc.aio.insecure_channel(service.address) as channel:
        assert await check(channel) == "NOT_SERVING"
        assert await check(channel, "test.Echo") == "NOT_SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Echo/Call")(b"early")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert b"MODEL_LOADING" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]

        load.model_is_there.set()
        await service.wait_serving()

        assert await check(channel) == "SERVING"
        assert await check(channel, "test.Echo") == "SERVING"
        assert await channel.unary_unary("/test.Echo/Call")(b"late") == b"late"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(channel, "test.Unheard")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_watchers_see_every_change_and_are_released_at_the_end() -> None:
    load = SlowLoad()
    async with started(load) as service, grpc.aio.insecure_channel(service.address) as channel:
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(3)
        ]
        watches.pop().cancel()  # one that leaves does not silence the others
        told: list[list[str]] = [[], []]

        async def listen(number: int) -> None:
            async for response in watches[number]:
                told[number].append(Status.ServingStatus.Name(response.status))

        async def until(count: int) -> None:
            while any(len(each) < count for each in told):
                await asyncio.sleep(0.01)

        listeners = [asyncio.create_task(listen(number)) for number in range(2)]
        await until(1)
        load.model_is_there.set()
        await until(2)
        assert load.health is not None
        load.health.report("peers", False)
        await until(3)
        load.health.report("peers", True)
        await until(4)
        await service.stop(30)
        await asyncio.gather(*listeners)

    assert told == [["NOT_SERVING", "SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]] * 2


async def test_stopping_takes_the_service_down_in_order() -> None:
    load = SlowLoad()
    load.model_is_there.set()
    async with started(load) as service:
        await service.wait_serving()
        await service.stop(0)
        assert load.taken_down
        await service.stop(0)  # a second time is no harm


async def test_a_service_can_be_stopped_while_it_loads() -> None:
    load = SlowLoad()
    async with started(load) as service:
        await service.stop(0)
        with pytest.raises(ServiceUnavailableError):
            await service.wait_serving()


async def test_a_build_that_fails_tells_whoever_waits() -> None:
    @asynccontextmanager
    async def build(
        settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
    ) -> AsyncIterator[None]:
        raise CheckpointError("models/none", "there is no config.json")
        yield

    service = await start_server("broken", ServerSettings(), build)
    with pytest.raises(CheckpointError, match="there is no config"):
        await service.wait_serving()
    assert not service.health.serving
    await service.stop(0)


async def test_a_port_that_is_taken_is_a_start_error() -> None:
    async with started(SlowLoad()) as service:
        with pytest.raises(StartupError, match="cannot listen"):
            await start_server("second", ServerSettings(address=service.address), SlowLoad())


async def test_the_probe_port_serves_health_and_nothing_else() -> None:
    load = SlowLoad()
    load.model_is_there.set()
    async with started(SlowLoad()) as other:
        free = other.address
    async with started(load, health_address=free, api_keys="secret") as service:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(free) as channel:
            assert await check(channel) == "SERVING"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test.Echo/Call")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_and_channelz_answer() -> None:
    load = SlowLoad()
    load.model_is_there.set()
    async with started(load) as service, grpc.aio.insecure_channel(service.address) as channel:
        await service.wait_serving()
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        async for response in stub.ServerReflectionInfo(iter(requests)):
            names = {each.name for each in response.list_services_response.service}
        servers = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest(start_server_id=0)
        )

    assert {"grpc.health.v1.Health", "test.Echo", "grpc.channelz.v1.Channelz"} <= names
    assert len(servers.server) >= 1


async def test_reflection_and_channelz_can_be_turned_off() -> None:
    load = SlowLoad()
    load.model_is_there.set()
    async with (
        started(load, reflection=False, channelz=False) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        await service.wait_serving()
        for method in ("grpc.channelz.v1.Channelz/GetServers", "grpc.reflection.v1alpha.ServerReflection/X"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/{method}")(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


class Process:
    """The test service in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.records: list[dict[str, Any]] = []

    async def record(self, message: str) -> dict[str, Any]:
        """Wait for a log record and return it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self.process.stdout.readline():
                self.records.append(json.loads(line))
                if self.records[-1]["message"] == message:
                    return self.records[-1]
        raise AssertionError(f"no record {message!r} in {self.records}")

    async def end(self) -> tuple[int, str]:
        """Wait for the exit; returns its code and standard error."""
        async with asyncio.timeout(60):
            output, errors = await self.process.communicate()
        self.records += map(json.loads, output.splitlines())
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


Launch = Callable[..., Awaitable[Process]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    """Starts the test service with arguments and environment variables; kills what is left at the end."""
    script = tmp_path / "slow_service.py"
    script.write_text(SCRIPT)
    launched: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str, **environment: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), "--address=127.0.0.1:0", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        launched.append(process)
        return Process(process)

    yield start
    for process in launched:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def is_answered(address: str) -> bool:
    """Whether a call on a connection of its own is answered, and not refused as UNAVAILABLE."""
    async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            return bool(await channel.unary_unary("/test.Slow/Call")(b"/") == b"done")
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False


async def test_sigterm_lets_the_call_in_flight_finish_and_refuses_new_ones(
    launch: Launch, tmp_path: Path
) -> None:
    signpost = tmp_path / "go on"
    service = await launch()
    address = (await service.record("listening"))["address"]
    await service.record("serving")
    async with grpc.aio.insecure_channel(address) as channel:
        in_flight = channel.unary_unary("/test.Slow/Call")(bytes(signpost))
        await service.record("called")
        service.process.send_signal(signal.SIGTERM)
        await service.record("draining")

        # The record comes before the port closes, so the first of these may still be answered.
        async with asyncio.timeout(60):
            while await is_answered(address):
                pass
        assert not in_flight.done()
        signpost.touch()
        answer = await in_flight

    assert answer == b"done"
    await service.record("taken down")
    await service.record("stopped")
    assert await service.end() == (0, "")


async def test_a_second_signal_does_not_wait_for_calls_in_flight(launch: Launch) -> None:
    service = await launch()
    address = (await service.record("listening"))["address"]
    await service.record("serving")
    async with grpc.aio.insecure_channel(address) as channel:
        in_flight = channel.unary_unary("/test.Slow/Call")(b"/no/such/file")
        await service.record("called")
        service.process.send_signal(signal.SIGTERM)
        await service.record("draining")
        service.process.send_signal(signal.SIGINT)
        with pytest.raises(grpc.aio.AioRpcError):
            await in_flight

    assert await service.end() == (0, "")


async def test_sigterm_while_loading_ends_the_process_cleanly(launch: Launch) -> None:
    service = await launch("--fail=hang")
    await service.record("listening")
    service.process.send_signal(signal.SIGTERM)

    assert await service.end() == (0, "")
    assert [record["message"] for record in service.records[-2:]] == ["draining", "stopped"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--fail=checkpoint"], "slow: cannot start: checkpoint models/none: there is no config.json\n"),
        (["--address=nowhere"], "slow: cannot start: address: Value error, 'nowhere' is not host:port\n"),
        (
            ["--tls-certificate=/none.pem", "--tls-key=/none.key"],
            "slow: cannot start: the TLS files cannot be used: "
            "[Errno 2] No such file or directory: '/none.pem'\n",
        ),
        (
            ["--tls-key=/none.key"],
            "slow: cannot start: settings: Value error, tls_certificate and tls_key must be set together\n",
        ),
    ],
)
async def test_what_cannot_start_says_why_in_one_line(
    launch: Launch, arguments: Sequence[str], line: str
) -> None:
    service = await launch(*arguments)

    assert await service.end() == (1, line)


async def test_settings_come_from_the_environment_too(launch: Launch) -> None:
    service = await launch(T4S_CONCURRENCY="0")
    code, errors = await service.end()

    assert code == 1
    assert errors.startswith("slow: cannot start: concurrency:")
    assert errors.count("\n") == 1


def test_an_unknown_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_service("echo", ServerSettings, SlowLoad(), ["--no-such-option=1"])

    assert caught.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err
