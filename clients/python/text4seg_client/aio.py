"""The asyncio client."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, TypeVar

import grpc

from text4seg.segmentation import (
    ChatEvent,
    ChatRequest,
    DetectAnswer,
    DetectRequest,
    ModelInfo,
    SegmentAnswer,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
    StoredImage,
)
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from text4seg_client.calls import (
    CHAT_OPTIONS,
    CHUNK_BYTES,
    DEFAULT_TIMEOUT_S,
    DETECT_OPTIONS,
    INLINE_BYTES,
    SEGMENT_OPTIONS,
    Effect,
    Open,
    Procedure,
    QueryInput,
    Sleep,
    Streaming,
    Terms,
    TurnsInput,
    Unary,
    Upload,
    domain_error,
    query_of,
    turns_of,
)
from text4seg_client.channel import (
    DEFAULT_ADDRESS,
    Tls,
    call_metadata,
    channel_credentials,
    channel_options,
)
from text4seg_client.images import ImageInput, image_bytes, image_source
from text4seg_client.retry import DEFAULT_RETRY, Random, RetryPolicy
from text4seg_client.tracing import trace_metadata

_Answer = TypeVar("_Answer")
_Event = TypeVar("_Event")

# What read() returns at the end of a stream; missing from the type stubs.
_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]


class AsyncClient:
    """The client for asyncio. One per event loop; close it, or use it in ``async with``.

    Methods, arguments and errors are those of :class:`text4seg_client.Client`. Cancelling a task cancels
    its call, and with it the model on the server.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: Tls | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy = DEFAULT_RETRY,
        inline_bytes: int = INLINE_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random = random.random,
    ) -> None:
        """Prepare a connection; the first call opens it, in the event loop that it runs in.

        Arguments are those of :class:`text4seg_client.Client`, but `sleep` is a coroutine function.
        """
        self._address = address
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._metadata = call_metadata(api_key)
        self._timeout_s = timeout_s
        self._terms = Terms(clock, random, retry, inline_bytes, chunk_bytes)
        self._sleep = sleep

    async def __aenter__(self) -> "AsyncClient":
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def segment(
        self,
        image: ImageInput,
        query: QueryInput,
        options: SegmentOptions = SEGMENT_OPTIONS,
        *,
        timeout_s: float | None = None,
    ) -> SegmentAnswer:
        """Find the regions that a query names. Nothing there is an answer without regions, not an error.

        Args:
            image: a path, encoded bytes, a PIL image, a uint8 array, or an ImageId.
            query: a phrase, several phrases, or a LabelQuery or OpenQuery.
            options: how to answer.
            timeout_s: seconds for the call; None: the client's default.

        Returns:
            Regions with bool masks [height, width] of the upright image, and what led to them.

        Raises:
            Text4SegError: see the class.
            OSError: the image file cannot be read.
        """
        request = SegmentRequest(await asyncio.to_thread(image_source, image), query_of(query), options)
        return await self._run(self._terms.segment(request, self._timeout(timeout_s)))

    async def stream_segment(
        self,
        image: ImageInput,
        query: QueryInput,
        options: SegmentOptions = SEGMENT_OPTIONS,
        *,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[SegmentEvent, None]:
        """Answer like :meth:`segment`, in pieces: grid rows, the coarse regions, then the complete answer.

        Leaving the iteration early (or closing the iterator) cancels the call on the server. Arguments and
        errors are those of :meth:`segment`; errors are raised while iterating.
        """
        request = SegmentRequest(await asyncio.to_thread(image_source, image), query_of(query), options)
        streaming = self._terms.stream_segment(request, self._timeout(timeout_s))
        async with aclosing(self._stream(streaming)) as events:
            async for event in events:
                yield event

    async def detect(
        self,
        image: ImageInput,
        query: QueryInput,
        options: SegmentOptions = DETECT_OPTIONS,
        *,
        timeout_s: float | None = None,
    ) -> DetectAnswer:
        """Find boxes around what a query names. Arguments and errors are those of :meth:`segment`.

        Of the options, refine (default NONE), min_score, split_instances, cache and seed take part.
        """
        request = DetectRequest(await asyncio.to_thread(image_source, image), query_of(query), options)
        return await self._run(self._terms.detect(request, self._timeout(timeout_s)))

    async def chat(
        self,
        image: ImageInput,
        turns: TurnsInput,
        options: SegmentOptions = CHAT_OPTIONS,
        *,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Ask about an image; the answer comes as text, regions of its descriptor blocks, and one ChatFinish.

        Args:
            image: as for :meth:`segment`.
            turns: a question, or a conversation: the user's and the assistant's turns, a question last.
            options: how regions are made; not refined by default.
            max_tokens: most tokens to write; None: the model's own limit.
            timeout_s: as for :meth:`segment`.

        Raises:
            Text4SegError: see the class; raised while iterating.
            OSError: the image file cannot be read.
        """
        request = ChatRequest(
            await asyncio.to_thread(image_source, image), turns_of(turns), options, max_tokens
        )
        streaming = self._terms.chat(request, self._timeout(timeout_s))
        async with aclosing(self._stream(streaming)) as events:
            async for event in events:
                yield event

    async def put_image(self, image: ImageInput, *, timeout_s: float | None = None) -> StoredImage:
        """Upload an image in pieces; ``ImageId(stored.id)`` then stands for it in the other calls.

        Raises:
            Text4SegError: see the class.
            OSError: the image file cannot be read.
        """
        data = await asyncio.to_thread(image_bytes, image)
        return await self._run(self._terms.put_image(data, self._timeout(timeout_s)))

    async def model_info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """Describe the models behind the server, their versions, and its limits.

        Raises:
            Text4SegError: see the class.
        """
        return await self._run(self._terms.model_info(self._timeout(timeout_s)))

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, *trace_metadata())

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    async def _run(self, procedure: Procedure[_Answer]) -> _Answer:
        with closing(procedure):
            try:
                effect = next(procedure)
                while True:
                    try:
                        result = await self._carry_out(effect)
                    except grpc.RpcError as error:
                        effect = procedure.throw(domain_error(error))
                    else:
                        effect = procedure.send(result)
            except StopIteration as stop:
                answer: _Answer = stop.value
                return answer

    async def _carry_out(self, effect: Effect) -> Any:
        match effect:
            case Sleep(seconds):
                return await self._sleep(seconds)
            case Unary(method, request, timeout_s):
                return await self._method(method)(request, timeout=timeout_s, metadata=self._headers())
            case Upload(method, requests, timeout_s):
                return await self._method(method)(requests(), timeout=timeout_s, metadata=self._headers())
            case Open(method, request, timeout_s):
                call = self._method(method)(request, timeout=timeout_s, metadata=self._headers())
                return call, await call.read()

    async def _stream(self, streaming: Streaming[_Event]) -> AsyncGenerator[_Event, None]:
        call, message = await self._run(streaming.procedure)
        try:
            while message is not _END:
                yield streaming.read(message)
                message = await call.read()
        except grpc.RpcError as error:
            raise domain_error(error) from error
        finally:
            call.cancel()

    def _method(self, name: str) -> Any:
        if self._channel is None:
            options = channel_options(self._tls)
            # A channel belongs to the loop that runs when it is made, and there may be none in __init__.
            self._channel = (
                grpc.aio.insecure_channel(self._address, options)
                if self._tls is None
                else grpc.aio.secure_channel(self._address, channel_credentials(self._tls), options)
            )
            self._stub = SegmentationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        return getattr(self._stub, name)
