"""The calls of the API and the settings of a client, written once for the blocking and the asyncio client.

A call is a coroutine, or an asynchronous generator, over the :class:`Sender` of the client it belongs to.
:class:`text4seg_client.AsyncClient` has them as its methods, :class:`text4seg_client.Client` runs them to
their end.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeAlias

from text4seg import wire
from text4seg.segmentation import (
    ChatEvent,
    ChatRequest,
    DetectAnswer,
    DetectRequest,
    ImageSource,
    LabelQuery,
    MaskFormat,
    ModelInfo,
    OpenQuery,
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
from text4seg_client.channel import (
    DEFAULT_ADDRESS,
    DEFAULT_CONNECTION,
    Connection,
    Tls,
    call_metadata,
    check_address,
)
from text4seg_client.images import ImageInput, image_bytes, image_source, mask_of_png
from text4seg_client.retry import DEFAULT_RETRY, Random, RetryPolicy
from text4seg_client.sending import Sender, Sleep, Terms, Transport

DEFAULT_TIMEOUT_S = 60.0
INLINE_BYTES = 3 << 20
CHUNK_BYTES = 256 << 10
SEGMENT_OPTIONS = SegmentOptions()
DETECT_OPTIONS = SegmentOptions(refine=RefineMode.NONE, mask_format=MaskFormat.NONE)
CHAT_OPTIONS = SegmentOptions(refine=RefineMode.NONE)

QueryInput: TypeAlias = str | Sequence[str] | Query
"""One phrase, several phrases, or a query such as ``LabelQuery(("sky", "road"))`` or ``OpenQuery()``."""

TurnsInput: TypeAlias = str | Sequence[Turn]
"""A question, or a whole conversation that ends with one."""


class ClientBase(ABC):
    """What both clients are made of; use :class:`Client` or :class:`AsyncClient`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: Tls | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy = DEFAULT_RETRY,
        connection: Connection = DEFAULT_CONNECTION,
        inline_bytes: int = INLINE_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep | None = None,
        random: Random = random.random,
    ) -> None:
        """Prepare a connection; the first call opens it.

        Args:
            address: host:port, or any target that gRPC understands, such as ``dns:///host:port``.
            tls: None connects in plain text.
            api_key: sent with every call. Use TLS with it: it travels as it is.
            timeout_s: seconds for each call, retries and uploads included; every method can be given its own.
            retry: what is tried again.
            connection: load balancing, keepalive, message limits.
            inline_bytes: larger image files are uploaded with PutImage first. The default stays below
                gRPC's own limit of 4 MiB a message.
            chunk_bytes: size of an upload's pieces.
            clock: monotonic seconds.
            sleep: waits for some seconds between retries; a coroutine function for AsyncClient.
            random: jitter of the retries.

        Raises:
            ValueError: an address, key or number that cannot work.
        """
        transport = self._connect(check_address(address), tls, connection)
        terms = Terms(
            timeout_s=timeout_s,
            retry=retry,
            inline_bytes=inline_bytes,
            chunk_bytes=chunk_bytes,
            metadata=call_metadata(api_key),
            clock=clock,
            sleep=sleep or transport.sleep,
            random=random,
        )
        self._sender = Sender(transport, terms)
        self._text = f"{address!r}, tls={tls is not None}, timeout_s={timeout_s:g}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text}{', closed' if self._sender.closed else ''})"

    @abstractmethod
    def _connect(self, address: str, tls: Tls | None, connection: Connection) -> Transport:
        """Make the transport, which connects when it is first used."""


async def segment(
    client: ClientBase,
    image: ImageInput,
    query: QueryInput,
    options: SegmentOptions = SEGMENT_OPTIONS,
    *,
    timeout_s: float | None = None,
) -> SegmentAnswer:
    """Find the regions that a query names. Nothing there is an answer without regions, not an error.

    Args:
        client: the client itself.
        image: a path, encoded bytes, a PIL image, a uint8 array, or an ImageId.
        query: a phrase, several phrases, or a LabelQuery or OpenQuery.
        options: how to answer.
        timeout_s: seconds for the call; None: the client's default.

    Returns:
        Regions with bool masks [height, width] of the upright image, and what led to them.

    Raises:
        Text4SegError: see the class.
        OSError: the image file cannot be read.
        TypeError: an argument of another type.
    """
    sender = client._sender
    deadline = sender.deadline(timeout_s)
    request = SegmentRequest(await _source(sender, image), query_of(query), _checked(options))
    message = await sender.answer("Segment", request, wire.segment_request_to_proto, deadline)
    return wire.segment_answer_from_proto(message, mask_of_png)


async def stream_segment(
    client: ClientBase,
    image: ImageInput,
    query: QueryInput,
    options: SegmentOptions = SEGMENT_OPTIONS,
    *,
    timeout_s: float | None = None,
) -> AsyncGenerator[SegmentEvent, None]:
    """Answer like :meth:`segment`, in pieces: grid rows, the coarse regions, then the complete answer.

    Leaving the iteration early and closing the iterator cancels the call on the server. Arguments and errors
    are those of :meth:`segment`; errors are raised while iterating.
    """
    sender = client._sender
    deadline = sender.deadline(timeout_s)
    request = SegmentRequest(await _source(sender, image), query_of(query), _checked(options))
    events = sender.events("StreamSegment", request, wire.stream_segment_request_to_proto, deadline)
    async with aclosing(events) as messages:
        async for message in messages:
            yield wire.segment_event_from_proto(message, mask_of_png)


async def detect(
    client: ClientBase,
    image: ImageInput,
    query: QueryInput,
    options: SegmentOptions = DETECT_OPTIONS,
    *,
    timeout_s: float | None = None,
) -> DetectAnswer:
    """Find boxes around what a query names. Arguments and errors are those of :meth:`segment`.

    Of the options, refine (default NONE), min_score, split_instances, cache and seed take part.
    """
    sender = client._sender
    deadline = sender.deadline(timeout_s)
    request = DetectRequest(await _source(sender, image), query_of(query), _checked(options))
    message = await sender.answer("Detect", request, wire.detect_request_to_proto, deadline)
    return wire.detect_answer_from_proto(message)


async def chat(
    client: ClientBase,
    image: ImageInput,
    turns: TurnsInput,
    options: SegmentOptions = CHAT_OPTIONS,
    *,
    max_tokens: int | None = None,
    timeout_s: float | None = None,
) -> AsyncGenerator[ChatEvent, None]:
    """Ask about an image; the answer comes as text, regions of its descriptor blocks, and one ChatFinish.

    Args:
        client: the client itself.
        image: as for :meth:`segment`.
        turns: a question, or a conversation: the user's and the assistant's turns, a question last.
        options: how regions are made; not refined by default.
        max_tokens: most tokens to write; None: the model's own limit.
        timeout_s: as for :meth:`segment`.

    Raises:
        Text4SegError: see the class; all errors are raised while iterating.
        OSError: the image file cannot be read.
        TypeError: an argument of another type.
    """
    sender = client._sender
    deadline = sender.deadline(timeout_s)
    request = ChatRequest(await _source(sender, image), turns_of(turns), _checked(options), max_tokens)
    events = sender.events("Chat", request, wire.chat_request_to_proto, deadline)
    async with aclosing(events) as messages:
        async for message in messages:
            yield wire.chat_event_from_proto(message, mask_of_png)


async def put_image(client: ClientBase, image: ImageInput, *, timeout_s: float | None = None) -> StoredImage:
    """Upload an image in pieces; ``ImageId(stored.id)`` then stands for it in the other calls.

    Raises:
        Text4SegError: see the class.
        OSError: the image file cannot be read.
        TypeError: an argument of another type.
    """
    sender = client._sender
    deadline = sender.deadline(timeout_s)
    return await sender.put(await sender.transport.work(partial(image_bytes, image)), deadline)


async def model_info(client: ClientBase, *, timeout_s: float | None = None) -> ModelInfo:
    """Describe the models behind the server, their versions, and its limits.

    Raises:
        Text4SegError: see the class.
    """
    deadline = client._sender.deadline(timeout_s)
    message = await client._sender.one("GetModelInfo", pb.GetModelInfoRequest(), deadline)
    return wire.model_info_from_proto(message)


async def close(client: ClientBase) -> None:
    """Close the connection; calls that are under way fail, and later ones raise RuntimeError."""
    await client._sender.close()


def query_of(query: QueryInput) -> Query:
    """The query that a caller means: a str is one phrase, a sequence of str several.

    Raises:
        TypeError: something else.
    """
    match query:
        case PhraseQuery() | LabelQuery() | OpenQuery():
            return query
        case str():
            return PhraseQuery((query,))
        case Sequence() if all(isinstance(phrase, str) for phrase in query):
            return PhraseQuery(tuple(query))
    raise TypeError(f"a query is a phrase, phrases, a LabelQuery or an OpenQuery, not {_kind(query)}")


def turns_of(turns: TurnsInput) -> tuple[Turn, ...]:
    """The conversation that a caller means: a str is one question.

    Raises:
        TypeError: something else.
    """
    if isinstance(turns, str):
        return (Turn("user", turns),)
    if isinstance(turns, Sequence):
        found = tuple(turn for turn in turns if isinstance(turn, Turn))
        if len(found) == len(turns):
            return found
    raise TypeError(f"a conversation is a question or a list of Turns, not {_kind(turns)}")


async def _source(sender: Sender, image: ImageInput) -> ImageSource:
    return await sender.transport.work(partial(image_source, image))


def _checked(options: SegmentOptions) -> SegmentOptions:
    if not isinstance(options, SegmentOptions):
        raise TypeError(f"options are SegmentOptions(...), not {_kind(options)}")
    return options


def _kind(value: object) -> str:
    inside = {type(item).__name__ for item in value} if isinstance(value, list | tuple) else set()
    return f"{type(value).__name__} of {', '.join(sorted(inside))}" if inside else type(value).__name__
