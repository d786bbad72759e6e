"""The blocking client."""

import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
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


class Client:
    """A client that blocks until the answer is there. Threads may share it; close it, or use it in ``with``.

    Every method raises the domain errors of :mod:`text4seg.errors`, with the ``grpc.RpcError`` as cause:
    InvalidInputError, ImageNotFoundError, UnauthenticatedError, PermissionDeniedError, OverloadedError,
    ServiceUnavailableError, DeadlineExceededError, DescriptorMalformedError, FeatureUnimplementedError,
    InternalError.
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
        sleep: Callable[[float], None] = time.sleep,
        random: Random = random.random,
    ) -> None:
        """Prepare a connection; the first call opens it.

        Args:
            address: host:port, or any target that gRPC understands.
            tls: None connects in plain text.
            api_key: sent with every call. Use TLS with it: it travels as it is.
            timeout_s: seconds for each call, retries and uploads included; every method can be given its own.
            retry: what is tried again.
            inline_bytes: larger image files are uploaded with PutImage first. The default stays below
                gRPC's own limit of 4 MiB a message.
            chunk_bytes: size of an upload's pieces.
            clock: monotonic seconds.
            sleep: waits for some seconds between retries.
            random: jitter of the retries.
        """
        options = channel_options(tls)
        self._channel: grpc.Channel = (
            grpc.insecure_channel(address, options)
            if tls is None
            else grpc.secure_channel(address, channel_credentials(tls), options)
        )
        self._stub: Any = SegmentationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = call_metadata(api_key)
        self._timeout_s = timeout_s
        self._terms = Terms(clock, random, retry, inline_bytes, chunk_bytes)
        self._sleep = sleep

    def __enter__(self) -> "Client":
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._channel.close()

    def segment(
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
        request = SegmentRequest(image_source(image), query_of(query), options)
        return self._run(self._terms.segment(request, self._timeout(timeout_s)))

    def stream_segment(
        self,
        image: ImageInput,
        query: QueryInput,
        options: SegmentOptions = SEGMENT_OPTIONS,
        *,
        timeout_s: float | None = None,
    ) -> Generator[SegmentEvent, None, None]:
        """Answer like :meth:`segment`, in pieces: grid rows, the coarse regions, then the complete answer.

        Leaving the iteration early (or closing the iterator) cancels the call on the server. Arguments and
        errors are those of :meth:`segment`; errors are raised while iterating.
        """
        request = SegmentRequest(image_source(image), query_of(query), options)
        return self._stream(self._terms.stream_segment(request, self._timeout(timeout_s)))

    def detect(
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
        request = DetectRequest(image_source(image), query_of(query), options)
        return self._run(self._terms.detect(request, self._timeout(timeout_s)))

    def chat(
        self,
        image: ImageInput,
        turns: TurnsInput,
        options: SegmentOptions = CHAT_OPTIONS,
        *,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> Generator[ChatEvent, None, None]:
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
        request = ChatRequest(image_source(image), turns_of(turns), options, max_tokens)
        return self._stream(self._terms.chat(request, self._timeout(timeout_s)))

    def put_image(self, image: ImageInput, *, timeout_s: float | None = None) -> StoredImage:
        """Upload an image in pieces; ``ImageId(stored.id)`` then stands for it in the other calls.

        Raises:
            Text4SegError: see the class.
            OSError: the image file cannot be read.
        """
        return self._run(self._terms.put_image(image_bytes(image), self._timeout(timeout_s)))

    def model_info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """Describe the models behind the server, their versions, and its limits.

        Raises:
            Text4SegError: see the class.
        """
        return self._run(self._terms.model_info(self._timeout(timeout_s)))

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, *trace_metadata())

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _run(self, procedure: Procedure[_Answer]) -> _Answer:
        with closing(procedure):
            try:
                effect = next(procedure)
                while True:
                    try:
                        result = self._carry_out(effect)
                    except grpc.RpcError as error:
                        effect = procedure.throw(domain_error(error))
                    else:
                        effect = procedure.send(result)
            except StopIteration as stop:
                answer: _Answer = stop.value
                return answer

    def _carry_out(self, effect: Effect) -> Any:
        match effect:
            case Sleep(seconds):
                return self._sleep(seconds)
            case Unary(method, request, timeout_s):
                return getattr(self._stub, method)(request, timeout=timeout_s, metadata=self._headers())
            case Upload(method, requests, timeout_s):
                return getattr(self._stub, method)(requests(), timeout=timeout_s, metadata=self._headers())
            case Open(method, request, timeout_s):
                call = getattr(self._stub, method)(request, timeout=timeout_s, metadata=self._headers())
                return call, next(call, None)

    def _stream(self, streaming: Streaming[_Event]) -> Generator[_Event, None, None]:
        call, message = self._run(streaming.procedure)
        try:
            while message is not None:
                yield streaming.read(message)
                message = next(call, None)
        except grpc.RpcError as error:
            raise domain_error(error) from error
        finally:
            call.cancel()
