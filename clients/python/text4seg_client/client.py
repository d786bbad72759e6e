"""The blocking client."""

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from types import GenericAlias
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_args

import grpc

from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from text4seg_client import calls
from text4seg_client.calls import ClientBase
from text4seg_client.channel import Connection, Tls
from text4seg_client.sending import Messages, Metadata, Transport

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _complete(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine that never waits, see :mod:`text4seg_client.sending`."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(_Result, stop.value)
    coroutine.close()
    raise TypeError("a blocking client was given a coroutine function to sleep with")


def _blocking(
    call: Callable[Concatenate[ClientBase, _Arguments], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate["Client", _Arguments], _Result]:
    @wraps(call)
    def method(client: "Client", /, *values: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        return _complete(call(client, *values, **named))

    return method


def _iterating(
    call: Callable[Concatenate[ClientBase, _Arguments], AsyncGenerator[_Result, None]],
) -> Callable[Concatenate["Client", _Arguments], Generator[_Result, None, None]]:
    @wraps(call)
    def method(
        client: "Client", /, *values: _Arguments.args, **named: _Arguments.kwargs
    ) -> Generator[_Result, None, None]:
        events = call(client, *values, **named)
        try:
            while True:
                try:
                    event = _complete(events.__anext__())
                except StopAsyncIteration:
                    return
                yield event
        finally:
            _complete(events.aclose())

    # wraps() has taken the signature over: what it says about the result is not true here.
    signature = inspect.signature(call)
    event, _ = get_args(signature.return_annotation)
    returned = GenericAlias(Generator, (event, None, None))
    method.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return method


class Client(ClientBase):
    """A client that blocks until the answer is there. Threads may share it; close it, or use it in ``with``.

    Every method raises the domain errors of :mod:`text4seg.errors`, with the ``grpc.RpcError`` as cause:
    InvalidInputError, ImageNotFoundError, UnauthenticatedError, PermissionDeniedError, OverloadedError,
    ServiceUnavailableError, DeadlineExceededError, DescriptorMalformedError, FeatureUnimplementedError,
    InternalError. Their ``request_id`` names the call in the servers' logs. A client that was closed raises
    RuntimeError.
    """

    segment = _blocking(calls.segment)
    stream_segment = _iterating(calls.stream_segment)
    detect = _blocking(calls.detect)
    chat = _iterating(calls.chat)
    put_image = _blocking(calls.put_image)
    model_info = _blocking(calls.model_info)
    close = _blocking(calls.close)

    def __enter__(self) -> "Client":
        """Return the client itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connection."""
        self.close()

    def _connect(self, address: str, tls: Tls | None, connection: Connection) -> Transport:
        return _BlockingTransport(address, tls, connection)


class _BlockingTransport:
    """Coroutines that never wait: each blocks until it is done."""

    def __init__(self, address: str, tls: Tls | None, connection: Connection) -> None:
        options = connection.channel_options(tls)
        self._channel: grpc.Channel = (
            grpc.insecure_channel(address, options)
            if tls is None
            else grpc.secure_channel(address, tls.credentials(), options)
        )
        self._stub: Any = SegmentationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def call(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Any:
        return getattr(self._stub, method)(request, timeout=timeout_s, metadata=metadata)

    async def stream(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Messages:
        messages = getattr(self._stub, method)(request, timeout=timeout_s, metadata=metadata)
        try:
            for message in messages:
                yield message
        finally:
            messages.cancel()

    async def work(self, function: Callable[[], _Result]) -> _Result:
        return function()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def close(self) -> None:
        self._channel.close()
