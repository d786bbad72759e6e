"""What each call of the API does, written once for the blocking and the asyncio client.

A procedure is a generator: it yields effects (an RPC, a pause), receives their results, and returns the
answer. It holds every decision (upload or inline, retry or raise, how much time is left) and no input or
output; a client is only a loop that carries effects out, in its own way. An RPC that fails is thrown into
the procedure as a domain error.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import grpc

from text4seg import wire
from text4seg.errors import DeadlineExceededError, ImageNotFoundError, Text4SegError
from text4seg.segmentation import (
    ChatEvent,
    ChatRequest,
    DetectAnswer,
    DetectRequest,
    ImageContent,
    ImageId,
    MaskFormat,
    ModelInfo,
    PhraseQuery,
    Query,
    RefineMode,
    SegmentAnswer,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
    StoredImage,
    Turn,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg_client.images import mask_of_png
from text4seg_client.retry import Random, RetryPolicy, requested_delay

DEFAULT_TIMEOUT_S = 60.0
INLINE_BYTES = 3 << 20
CHUNK_BYTES = 256 << 10
SEGMENT_OPTIONS = SegmentOptions()
DETECT_OPTIONS = SegmentOptions(refine=RefineMode.NONE, mask_format=MaskFormat.NONE)
CHAT_OPTIONS = SegmentOptions(refine=RefineMode.NONE)

_Answer = TypeVar("_Answer")
_Event = TypeVar("_Event")
_Request = TypeVar("_Request", SegmentRequest, DetectRequest, ChatRequest)

QueryInput: TypeAlias = str | Sequence[str] | Query
"""One phrase, several phrases, or a query such as ``LabelQuery(("sky", "road"))`` or ``OpenQuery()``."""

TurnsInput: TypeAlias = str | Sequence[Turn]
"""A question, or a whole conversation that ends with one."""


@dataclass(frozen=True, slots=True)
class Unary:
    """Effect: one request, one response. Its result is the response message."""

    method: str
    request: Any
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Upload:
    """Effect: a stream of requests, one response. Its result is the response message."""

    method: str
    requests: Callable[[], Iterator[Any]]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Open:
    """Effect: one request, a stream of responses, read up to the first. Its result is the client's own."""

    method: str
    request: Any
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Effect: a pause. It has no result."""

    seconds: float


Effect: TypeAlias = Unary | Upload | Open | Sleep
Procedure: TypeAlias = Generator[Effect, Any, _Answer]


@dataclass(frozen=True, slots=True)
class Streaming(Generic[_Event]):
    """A call with many answers: how to open it, and how to read each message."""

    procedure: Procedure[Any]
    read: Callable[[Any], _Event]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client's calls have in common.

    Attributes:
        clock: seconds, monotonic.
        random: draws uniformly from [0, 1).
        retry: what is tried again.
        inline_bytes: larger image files are uploaded first and sent by id.
        chunk_bytes: size of an upload's pieces.
    """

    clock: Callable[[], float]
    random: Random
    retry: RetryPolicy
    inline_bytes: int
    chunk_bytes: int

    def segment(self, request: SegmentRequest, timeout_s: float) -> Procedure[SegmentAnswer]:
        """Segment, uploading a large image first."""
        deadline = self.clock() + timeout_s

        def send(small: SegmentRequest) -> Procedure[pb.SegmentResponse]:
            message = wire.segment_request_to_proto(small)
            return self._try(lambda left: Unary("Segment", message, left), deadline)

        response = yield from self._with_image(request, send, deadline)
        return wire.segment_answer_from_proto(response, mask_of_png)

    def stream_segment(self, request: SegmentRequest, timeout_s: float) -> Streaming[SegmentEvent]:
        """StreamSegment, uploading a large image first."""
        deadline = self.clock() + timeout_s

        def send(small: SegmentRequest) -> Procedure[Any]:
            message = wire.stream_segment_request_to_proto(small)
            return self._try(lambda left: Open("StreamSegment", message, left), deadline)

        return Streaming(
            self._with_image(request, send, deadline),
            lambda message: wire.segment_event_from_proto(message, mask_of_png),
        )

    def detect(self, request: DetectRequest, timeout_s: float) -> Procedure[DetectAnswer]:
        """Detect, uploading a large image first."""
        deadline = self.clock() + timeout_s

        def send(small: DetectRequest) -> Procedure[pb.DetectResponse]:
            message = wire.detect_request_to_proto(small)
            return self._try(lambda left: Unary("Detect", message, left), deadline)

        response = yield from self._with_image(request, send, deadline)
        return wire.detect_answer_from_proto(response)

    def chat(self, request: ChatRequest, timeout_s: float) -> Streaming[ChatEvent]:
        """Chat, uploading a large image first."""
        deadline = self.clock() + timeout_s

        def send(small: ChatRequest) -> Procedure[Any]:
            message = wire.chat_request_to_proto(small)
            return self._try(lambda left: Open("Chat", message, left), deadline)

        return Streaming(
            self._with_image(request, send, deadline),
            lambda message: wire.chat_event_from_proto(message, mask_of_png),
        )

    def put_image(self, data: bytes, timeout_s: float) -> Procedure[StoredImage]:
        """PutImage in pieces."""
        return self._put(data, self.clock() + timeout_s)

    def model_info(self, timeout_s: float) -> Procedure[ModelInfo]:
        """GetModelInfo."""
        deadline = self.clock() + timeout_s
        message = pb.GetModelInfoRequest()
        response = yield from self._try(lambda left: Unary("GetModelInfo", message, left), deadline)
        return wire.model_info_from_proto(response)

    def _put(self, data: bytes, deadline: float) -> Procedure[StoredImage]:
        def pieces() -> Iterator[pb.PutImageRequest]:
            for begin in range(0, max(len(data), 1), self.chunk_bytes):
                yield pb.PutImageRequest(chunk=data[begin : begin + self.chunk_bytes])

        response = yield from self._try(lambda left: Upload("PutImage", pieces, left), deadline)
        return wire.stored_image_from_proto(response)

    def _with_image(
        self, request: _Request, send: Callable[[_Request], Procedure[_Answer]], deadline: float
    ) -> Procedure[_Answer]:
        """Send the request; a large file goes ahead of it, and once more if the server lost it."""
        image = request.image
        if not isinstance(image, ImageContent) or len(image.data) <= self.inline_bytes:
            return (yield from send(request))
        stored = yield from self._put(image.data, deadline)
        small = replace(request, image=ImageId(stored.id))
        try:
            return (yield from send(small))
        except ImageNotFoundError:
            yield from self._put(image.data, deadline)
            return (yield from send(small))

    def _try(self, effect: Callable[[float], Effect], deadline: float) -> Procedure[Any]:
        """Carry an effect out until it works, may not be retried, or the deadline is too near."""
        failures = 0
        while True:
            remaining = deadline - self.clock()
            if remaining <= 0:
                raise DeadlineExceededError("client")
            try:
                return (yield effect(remaining))
            except Text4SegError as error:
                failures += 1
                asked = requested_delay(error)
                pause = self.retry.delay(asked, failures, deadline - self.clock(), self.random)
                if pause is None:
                    raise
            yield Sleep(pause)


def query_of(query: QueryInput) -> Query:
    """The query that a caller means: a str is one phrase, a sequence of str several."""
    match query:
        case str():
            return PhraseQuery((query,))
        case Sequence():
            return PhraseQuery(tuple(query))
        case _:
            return query


def turns_of(turns: TurnsInput) -> tuple[Turn, ...]:
    """The conversation that a caller means: a str is one question."""
    return (Turn("user", turns),) if isinstance(turns, str) else tuple(turns)


def domain_error(error: grpc.RpcError) -> Text4SegError:
    """The domain error behind a failed call, with the failed call as its cause."""
    translated = wire.error_from_rpc(error)
    translated.__cause__ = error
    return translated
