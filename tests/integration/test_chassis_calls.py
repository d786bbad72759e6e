"""What callers of every kind of RPC see: request ids, statuses, credentials, limits."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.chassis.health import Health
from services.chassis.logs import JsonFormatter, current_request_id
from services.chassis.routing import Router
from services.chassis.server import RunningService, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from text4seg.errors import (
    CheckpointError,
    ImageInvalidError,
    InternalError,
    OverloadedError,
    QueryInvalidError,
)

PATIENT_S = 60.0
"""Longer than anything here takes on a busy machine."""

SECRET = "password=hunter2"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
FAILURES = {
    b"image": ImageInvalidError("image.content", "the file is empty"),
    b"busy": OverloadedError("the queue is full", retry_after_s=2.5),
    b"group": ExceptionGroup("tasks", [ValueError(SECRET), QueryInvalidError("query", "is empty")]),
    b"bug": ValueError(SECRET),
    b"base": InternalError(SECRET),
    b"checkpoint": CheckpointError("/secret/path", SECRET),
    b"timeout": TimeoutError(SECRET),
}


class Echo:
    """One method of each kind; a request named in FAILURES fails that way, everything else is echoed."""

    async def unary_unary(self, request: bytes, context: object) -> bytes:
        return self._answer(request)

    async def unary_stream(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        if request == b"many":
            for number in range(3):
                yield str(number).encode()
            raise FAILURES[b"busy"]
        if request == b"for ever":
            yield b"begun"
            await asyncio.Event().wait()
        yield self._answer(request)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: object) -> bytes:
        return b"".join([self._answer(request) async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield self._answer(request)

    def not_overridden(self, request: bytes, context: object) -> bytes:
        raise NotImplementedError

    @staticmethod
    def _answer(request: bytes) -> bytes:
        if request in FAILURES:
            raise FAILURES[request]
        return current_request_id().encode() if request == b"request id?" else request


def add_echo(servicer: Echo, server: object) -> None:
    """What generated code does, for methods that carry plain bytes."""
    handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(servicer, kind)) for kind in KINDS}
    handlers["not_overridden"] = grpc.unary_unary_rpc_method_handler(servicer.not_overridden)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    server.add_registered_method_handlers("test.Echo", handlers)


@asynccontextmanager
async def echo(
    settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
) -> AsyncIterator[None]:
    router.add(add_echo, Echo())
    yield


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[RunningService]:
    service = await start_server("echo", ServerSettings(**settings), echo)
    try:
        await service.wait_serving()
        yield service
    finally:
        await service.stop(0)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with serving() as service, grpc.aio.insecure_channel(service.address) as channel:
        yield channel


@pytest.fixture
def log() -> io.StringIO:
    """What the service would log, one JSON object a line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("echo"))
    logger = logging.getLogger("services.chassis")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


async def call(
    channel: grpc.aio.Channel, kind: str, request: bytes, **options: object
) -> tuple[list[bytes], object]:
    """Make one call; returns the responses and the finished call."""
    method = getattr(channel, kind)(f"/test.Echo/{kind}")
    made = method(iter([request]) if kind.startswith("stream") else request, **options)
    responses = [await made] if kind.endswith("unary") else [response async for response in made]
    return responses, made


async def failure(
    channel: grpc.aio.Channel, kind: str, request: bytes, **options: object
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, kind, request, **options)
    return caught.value


def details(error: grpc.aio.AioRpcError, kind: type) -> object:
    """Return the one detail of this kind in the error's google.rpc.Status."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    (found,) = (detail for detail in status.details if detail.Is(kind.DESCRIPTOR))
    unpacked = kind()
    found.Unpack(unpacked)
    return unpacked


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_call_is_answered_and_its_request_id_returned(
    channel: grpc.aio.Channel, kind: str
) -> None:
    responses, made = await call(channel, kind, b"hello", metadata=[("x-request-id", "abc-1")])

    assert responses == [b"hello"]
    assert dict(await made.trailing_metadata())["x-request-id"] == "abc-1"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_servicer_knows_the_request_id(channel: grpc.aio.Channel, kind: str) -> None:
    responses, _ = await call(channel, kind, b"request id?", metadata=[("x-request-id", "abc-2")])

    assert responses == [b"abc-2"]


@pytest.mark.parametrize("offered", [[], [("x-request-id", "x" * 200)], [("x-request-id", "two words")]])
async def test_without_a_usable_request_id_a_new_one_is_made(
    channel: grpc.aio.Channel, offered: list[tuple[str, str]]
) -> None:
    ids = []
    for _ in range(2):
        _, made = await call(channel, "unary_unary", b"hello", metadata=offered)
        ids.append(dict(await made.trailing_metadata())["x-request-id"])

    assert ids[0] != ids[1]
    assert all(len(each) == 32 and each.isalnum() for each in ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_domain_error_becomes_its_status_with_details(channel: grpc.aio.Channel, kind: str) -> None:
    error = await failure(channel, kind, b"image", metadata=[("x-request-id", "abc-3")])

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(error, error_details_pb2.ErrorInfo).reason == "IMAGE_INVALID"
    assert details(error, error_details_pb2.BadRequest).field_violations[0].field == "image.content"
    assert details(error, error_details_pb2.RequestInfo).request_id == "abc-3"
    assert dict(error.trailing_metadata())["x-request-id"] == "abc-3"


@pytest.mark.parametrize("kind", KINDS)
async def test_overload_says_when_to_come_back(channel: grpc.aio.Channel, kind: str) -> None:
    error = await failure(channel, kind, b"busy")

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() == 2.5


@pytest.mark.parametrize("kind", KINDS)
async def test_the_domain_error_inside_a_group_of_tasks_is_found(
    channel: grpc.aio.Channel, kind: str
) -> None:
    error = await failure(channel, kind, b"group")

    assert details(error, error_details_pb2.ErrorInfo).reason == "QUERY_INVALID"


async def test_a_stream_that_fails_half_way_keeps_what_came_before(channel: grpc.aio.Channel) -> None:
    made = channel.unary_stream("/test.Echo/unary_stream")(b"many")

    assert [await made.read() for _ in range(3)] == [b"0", b"1", b"2"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await made.read()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bug", [b"bug", b"base", b"timeout", b"checkpoint"])
async def test_an_unexpected_error_is_generic_outside_and_complete_in_the_log(
    channel: grpc.aio.Channel, log: io.StringIO, kind: str, bug: bytes
) -> None:
    error = await failure(channel, kind, bug, metadata=[("x-request-id", "abc-4")])

    assert error.code() == grpc.StatusCode.INTERNAL
    seen = f"{error.details()} {error.trailing_metadata()} {error.debug_error_string()}"
    assert "hunter2" not in seen
    assert "secret" not in seen
    records = [json.loads(line) for line in log.getvalue().splitlines()]
    logged = next(record for record in records if record["level"] == "ERROR")
    assert logged["request_id"] == "abc-4"
    assert "Traceback" in logged["exception"]
    assert SECRET in logged["exception"]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_call_is_logged_once(channel: grpc.aio.Channel, log: io.StringIO, kind: str) -> None:
    await call(channel, kind, b"hello", metadata=[("x-request-id", "good")])
    await failure(channel, kind, b"image", metadata=[("x-request-id", "bad")])

    records = [json.loads(line) for line in log.getvalue().splitlines()]
    calls = {
        record["request_id"]: (record["method"], record["code"])
        for record in records
        if record["message"] == "call"
    }
    assert len(records) == 2
    assert calls == {
        "good": (f"/test.Echo/{kind}", "OK"),
        "bad": (f"/test.Echo/{kind}", "INVALID_ARGUMENT"),
    }


@pytest.mark.parametrize(
    "method", ["/test.Echo/not_overridden", "/test.Echo/NoSuchMethod", "/test.Other/Anything"]
)
async def test_what_is_not_there_is_unimplemented_by_name(channel: grpc.aio.Channel, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(method)(b"")

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    info = details(caught.value, error_details_pb2.ErrorInfo)
    assert info.reason == "FEATURE_UNIMPLEMENTED"
    assert info.metadata["feature"] == method[1:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "metadata",
    [[], [("x-api-key", "wrong")], [("authorization", "Bearer wrong")], [("authorization", "key-one")]],
)
async def test_without_an_accepted_key_a_call_is_unauthenticated(
    kind: str, metadata: list[tuple[str, str]]
) -> None:
    async with (
        serving(api_keys="key-one, key-two") as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        error = await failure(channel, kind, b"hello", metadata=metadata)

    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert details(error, error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metadata", [("x-api-key", "key-two"), ("authorization", "bearer key-one")])
async def test_an_accepted_key_lets_a_call_in_and_stays_out_of_the_log(
    log: io.StringIO, kind: str, metadata: tuple[str, str]
) -> None:
    async with (
        serving(api_keys="key-one,key-two") as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        responses, _ = await call(channel, kind, b"hello", metadata=[metadata])

    assert responses == [b"hello"]
    assert "key-" not in log.getvalue()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_over_the_limit_is_refused_and_the_next_is_answered(kind: str) -> None:
    async with (
        serving(max_message_bytes=10_000) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        error = await failure(channel, kind, b"x" * 20_000)
        responses, _ = await call(channel, kind, b"x" * 9_000)

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert responses == [b"x" * 9_000]


async def first_call(log: io.StringIO) -> dict[str, object]:
    """Wait for the first entry of the access log."""
    while True:
        for line in log.getvalue().splitlines():
            record: dict[str, object] = json.loads(line)
            if record["message"] == "call":
                return record
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_is_logged_as_cancelled(log: io.StringIO) -> None:
    async with serving() as service, grpc.aio.insecure_channel(service.address) as channel:
        made = channel.unary_stream("/test.Echo/unary_stream")(b"for ever")
        assert await made.read() == b"begun"
        made.cancel()
        record = await asyncio.wait_for(first_call(log), PATIENT_S)

    assert record["code"] == "CANCELLED"


async def test_a_call_out_of_time_is_logged_as_such(channel: grpc.aio.Channel, log: io.StringIO) -> None:
    await channel.channel_ready()  # a call that spends its time on connecting never gets here
    error = await failure(channel, "unary_stream", b"for ever", timeout=1.0)
    record = await asyncio.wait_for(first_call(log), PATIENT_S)

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert record["code"] == "DEADLINE_EXCEEDED"
