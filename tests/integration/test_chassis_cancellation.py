"""A caller who leaves, or whose time is up, stops the model that works for them."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from services.chassis.admission import Gate
from services.chassis.deadline import Deadline
from services.chassis.health import Health
from services.chassis.routing import Router
from services.chassis.server import RunningService, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from services.chassis.worker import Cancelled, ModelThread

PATIENT_S = 60.0
"""Longer than anything here takes on a busy machine."""


class Counter:
    """A service whose model counts for ever in the model's thread, one caller at a time."""

    def __init__(self) -> None:
        self.stopped = threading.Semaphore(0)
        self.gate: Gate | None = None
        self.remaining_s: float | None = None

    def model(self, cancelled: Cancelled) -> Iterator[bytes]:
        number = 0
        try:
            while not cancelled():
                yield str(number).encode()
                number += 1
        finally:
            self.stopped.release()

    async def has_stopped(self) -> bool:
        return await asyncio.to_thread(self.stopped.acquire, timeout=PATIENT_S)

    @asynccontextmanager
    async def build(
        self, settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
    ) -> AsyncIterator[None]:
        gate = self.gate = Gate(settings.concurrency, settings.queue)
        async with ModelThread() as thread:

            async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
                self.remaining_s = Deadline.from_context(context).timeout_for_peer("count")
                async with gate.slot():
                    async for item in thread.stream(self.model):
                        yield item

            def add(servicer: Counter, server: Any) -> None:
                handlers = {"Count": grpc.unary_stream_rpc_method_handler(count)}
                server.add_generic_rpc_handlers(
                    [grpc.method_handlers_generic_handler("test.Counter", handlers)]
                )

            router.add(add, self)
            yield


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    """Nothing here may stop only because the garbage collector happened to come by."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
async def service(counter: Counter) -> AsyncIterator[RunningService]:
    service = await start_server("counter", ServerSettings(queue=1), counter.build)
    await service.wait_serving()
    yield service
    await service.stop(0)


@pytest.fixture
async def channel(service: RunningService) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


def count(channel: grpc.aio.Channel, **options: Any) -> Any:
    return channel.unary_stream("/test.Counter/Count")(b"", **options)


async def test_cancelling_the_call_stops_the_model(channel: grpc.aio.Channel, counter: Counter) -> None:
    call = count(channel)
    assert [await call.read() for _ in range(3)] == [b"0", b"1", b"2"]
    call.cancel()

    assert await counter.has_stopped()


class Cable:
    """A connection to the service that can be cut: forwards bytes both ways until then."""

    def __init__(self, service: RunningService) -> None:
        self._port = service.port
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return "127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


async def test_a_lost_connection_stops_the_model(service: RunningService, counter: Counter) -> None:
    async with Cable(service) as address:
        channel = grpc.aio.insecure_channel(address)
        call = count(channel)
        assert await call.read() == b"0"

    assert await counter.has_stopped()
    call.cancel()
    await channel.close()


async def test_the_deadline_stops_the_model(channel: grpc.aio.Channel, counter: Counter) -> None:
    await channel.channel_ready()  # the deadline is for the call, not for connecting
    call = count(channel, timeout=2.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert await counter.has_stopped()
    assert counter.remaining_s is not None
    assert 0 < counter.remaining_s < 2.0


async def test_stopping_the_service_stops_the_model(
    service: RunningService, channel: grpc.aio.Channel, counter: Counter
) -> None:
    call = count(channel)
    assert await call.read() == b"0"
    await service.stop(0)

    assert await counter.has_stopped()


async def test_the_next_caller_is_served_and_one_too_many_refused(
    channel: grpc.aio.Channel, counter: Counter
) -> None:
    first = count(channel)
    assert await first.read() == b"0"  # it is inside: two calls begun together may arrive in either order
    second = count(channel)
    assert counter.gate is not None
    async with asyncio.timeout(PATIENT_S):
        while counter.gate.waiting == 0:
            await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await count(channel).read()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    first.cancel()

    assert await second.read() == b"0"
    second.cancel()
    assert await counter.has_stopped()
    assert await counter.has_stopped()
