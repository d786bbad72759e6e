"""How calls are sent: deadlines, retries, uploads. Written once, as coroutines over a transport.

A transport does input and output, in one of two ways. That of the asyncio client waits for it. That of the
blocking client blocks until it is there, so its coroutines never wait, and neither do those that are made of
them: they can be run to their end without an event loop.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc

from text4seg import wire
from text4seg.errors import DeadlineExceededError, ImageNotFoundError
from text4seg.segmentation import (
    ChatRequest,
    DetectRequest,
    ImageContent,
    ImageId,
    SegmentRequest,
    StoredImage,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg_client.retry import Random, RetryPolicy, requested_delay
from text4seg_client.tracing import call_span

_Result = TypeVar("_Result")
_Request = TypeVar("_Request", SegmentRequest, DetectRequest, ChatRequest)

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Messages: TypeAlias = AsyncGenerator[Any, None]

Sleep: TypeAlias = Callable[[float], Awaitable[None] | None]
"""Waits for some seconds: a function for the blocking client, a coroutine function for the other."""


class Transport(Protocol):
    """Input and output of a client. Failed calls raise ``grpc.RpcError``."""

    async def call(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Any:
        """Send a message, or an iterator of messages, and return the one that comes back."""

    def stream(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Messages:
        """Send a message and yield those that come back; closing the generator cancels the call."""

    async def work(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that takes its time."""

    def sleep(self, seconds: float) -> Awaitable[None] | None:
        """Wait for some seconds."""

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client's calls have in common.

    Attributes:
        timeout_s: seconds for a call that names none.
        retry: what is tried again.
        inline_bytes: larger image files are uploaded first and sent by id.
        chunk_bytes: size of an upload's pieces.
        metadata: sent with every call.
        clock: seconds, monotonic.
        sleep: waits for some seconds.
        random: draws uniformly from [0, 1).
    """

    timeout_s: float
    retry: RetryPolicy
    inline_bytes: int
    chunk_bytes: int
    metadata: Metadata
    clock: Callable[[], float]
    sleep: Sleep
    random: Random

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: a timeout that is not above 0 and finite, or pieces without bytes.
        """
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ValueError(f"timeout_s must be above 0 seconds and finite, not {self.timeout_s}")
        if self.chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be at least 1, not {self.chunk_bytes}")


class Sender:
    """Sends calls over a transport, on a client's terms."""

    def __init__(self, transport: Transport, terms: Terms) -> None:
        """Send over the transport until it is closed."""
        self.transport = transport
        self.closed = False
        self._terms = terms

    async def close(self) -> None:
        """Close the transport. Later calls raise RuntimeError."""
        self.closed = True
        await self.transport.close()

    def deadline(self, timeout_s: float | None) -> float:
        """The moment on the clock at which a call that begins now must have ended.

        Args:
            timeout_s: seconds for the call; None: the client's default.

        Raises:
            ValueError: the time is not finite.
        """
        seconds = self._terms.timeout_s if timeout_s is None else timeout_s
        if not math.isfinite(seconds):
            raise ValueError(f"timeout_s must be finite, not {seconds}")
        return self._terms.clock() + seconds

    async def one(self, method: str, message: Any, deadline: float) -> Any:
        """Send a message and return the one that comes back."""
        return await self._unary(method, lambda: message, deadline)

    async def answer(
        self, method: str, request: _Request, to_proto: Callable[[_Request], Any], deadline: float
    ) -> Any:
        """Send a request, its image ahead of it if that is large, and return the message that comes back."""

        async def send(small: _Request) -> Any:
            return await self.one(method, to_proto(small), deadline)

        return await self._with_image(request, send, deadline)

    async def events(
        self, method: str, request: _Request, to_proto: Callable[[_Request], Any], deadline: float
    ) -> Messages:
        """Send a request like :meth:`answer`, and yield the messages that come back.

        Until the first one has come the call may be tried again, afterwards it may not.
        """

        async def send(small: _Request) -> tuple[Messages, Any, ExitStack]:
            message = to_proto(small)
            with ExitStack() as call:
                headers = call.enter_context(call_span(method))
                messages, first = await self._try(
                    lambda left: self._open(method, message, left, headers), deadline
                )
                return messages, first, call.pop_all()

        messages, first, span = await self._with_image(request, send, deadline)
        with span:
            async with aclosing(messages):
                if first is None:
                    return
                yield first
                try:
                    async for message in messages:
                        yield message
                except grpc.RpcError as error:
                    raise wire.error_from_rpc(error) from error

    async def put(self, data: bytes, deadline: float) -> StoredImage:
        """Upload an image file in pieces."""
        size = self._terms.chunk_bytes

        def pieces() -> Iterator[pb.PutImageRequest]:
            for begin in range(0, max(len(data), 1), size):
                yield pb.PutImageRequest(chunk=data[begin : begin + size])

        return wire.stored_image_from_proto(await self._unary("PutImage", pieces, deadline))

    async def _with_image(
        self, request: _Request, send: Callable[[_Request], Awaitable[_Result]], deadline: float
    ) -> _Result:
        """Send the request; a large file goes ahead of it, and once more if the server lost it."""
        image = request.image
        if not isinstance(image, ImageContent) or len(image.data) <= self._terms.inline_bytes:
            return await send(request)
        stored = await self.put(image.data, deadline)
        small = replace(request, image=ImageId(stored.id))
        try:
            return await send(small)
        except ImageNotFoundError:
            await self.put(image.data, deadline)
            return await send(small)

    async def _try(self, attempt: Callable[[float], Awaitable[_Result]], deadline: float) -> _Result:
        """Make attempts until one works, may not be repeated, or the deadline is too near.

        All calls of the API may be repeated; whether that makes sense is for the server to say.
        """
        terms = self._terms
        failures = 0
        while True:
            if self.closed:
                raise RuntimeError("the client is closed")
            remaining = deadline - terms.clock()
            if remaining <= 0:
                raise DeadlineExceededError("client")
            try:
                return await attempt(remaining)
            except grpc.RpcError as failed:
                failures += 1
                left = deadline - terms.clock()
                pause = terms.retry.delay(requested_delay(failed), failures, left, terms.random)
                if pause is None:
                    raise wire.error_from_rpc(failed) from failed
            waiting = terms.sleep(pause)
            if waiting is not None:
                await waiting

    async def _unary(self, method: str, request: Callable[[], Any], deadline: float) -> Any:
        """Send a request, made anew for each attempt, and return the message that comes back."""
        with call_span(method) as headers:
            metadata = (*self._terms.metadata, *headers)
            return await self._try(
                lambda left: self.transport.call(method, request(), left, metadata), deadline
            )

    async def _open(
        self, method: str, request: Any, timeout_s: float, headers: Metadata
    ) -> tuple[Messages, Any]:
        metadata = (*self._terms.metadata, *headers)
        messages = self.transport.stream(method, request, timeout_s, metadata)
        return messages, await anext(messages, None)
