"""A public service written by hand, for tests of the client: it finds red, green and blue pixels.

It answers from the image it is sent, keeps what callers sent, and fails when it was told to.
"""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import grpc
import numpy as np
from grpc_status import rpc_status
from numpy.typing import NDArray
from PIL import Image

from text4seg import wire
from text4seg.descriptors import Codec, DecodeReport, LabelGrid, encode
from text4seg.errors import ImageInvalidError, ImageNotFoundError, Text4SegError, UnauthenticatedError
from text4seg.masks import box_of, split_instances, to_grid
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    ChatFinish,
    ChatRegions,
    ChatText,
    CoarseRegions,
    DescriptorResult,
    DetectAnswer,
    Detection,
    FinishReason,
    GeneratorSummary,
    GridRow,
    ImageContent,
    ImageId,
    ImageSource,
    Limits,
    ModelInfo,
    OpenQuery,
    PhraseQuery,
    Query,
    RefineMode,
    Region,
    SegmentAnswer,
    SegmentOptions,
    StoredImage,
    Timing,
    Turn,
    Versions,
    Warning_,
    WarningKind,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.v1.segmentation_service_pb2_grpc import (
    SegmentationServiceServicer,
    add_SegmentationServiceServicer_to_server,
)

COLOURS = ("red", "green", "blue")
VERSIONS = Versions(model="hand 1", codec="r-rle 1", templates="1", refiner="none 1", server="0")
LIMITS = Limits()
SHAPE = (16, 16)
STOP_S = 60.0
"""Longest time until the calls in flight have ended."""


@dataclass
class Seen:
    """What a call looked like from the server's side."""

    method: str
    metadata: dict[str, str]
    deadline_s: float
    request: Any = None
    chunks: list[int] = field(default_factory=list)


class HandServicer(SegmentationServiceServicer):
    """Finds the pixels of three colours.

    Attributes:
        seen: calls in the order of their arrival.
        failures: errors of the next calls, one each, before anything else happens.
        images: what was uploaded, by id.
        cancelled: set when a caller left a stream that had not ended.
        api_key: key that callers must present, if any.
        hold: whether streams wait for their caller to leave after the first message.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.failures: list[Text4SegError] = []
        self.images: dict[str, bytes] = {}
        self.cancelled = threading.Event()
        self.api_key: str | None = None
        self.hold = False

    def Segment(self, message: pb.SegmentRequest, context: grpc.ServicerContext) -> pb.SegmentResponse:  # noqa: N802
        with self._call("Segment", message, context):
            request = wire.segment_request_from_proto(message, LIMITS)
            answer = self._answer(request.image, request.query, request.options)
            return wire.segment_answer_to_proto(answer, request.options.mask_format, png_of_mask)
        raise AssertionError("abort raises")

    def StreamSegment(  # noqa: N802
        self, message: pb.StreamSegmentRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamSegmentResponse]:
        with self._call("StreamSegment", message, context):
            request = wire.segment_request_from_proto(message, LIMITS)
            answer = self._answer(request.image, request.query, request.options)
            row = GridRow(0, 0, ("others",) * SHAPE[1])
            for event in (row, CoarseRegions(answer.regions), answer):
                yield wire.segment_event_to_proto(event, request.options.mask_format, png_of_mask)
                self._maybe_hold()

    def Detect(self, message: pb.DetectRequest, context: grpc.ServicerContext) -> pb.DetectResponse:  # noqa: N802
        with self._call("Detect", message, context):
            request = wire.detect_request_from_proto(message, LIMITS)
            answer = self._answer(request.image, request.query, request.options)
            found = tuple(Detection(region.label, region.box, region.score) for region in answer.regions)
            return wire.detect_answer_to_proto(
                DetectAnswer(
                    found, answer.image_size, answer.no_target_score, answer.timing, answer.cache, VERSIONS
                )
            )
        raise AssertionError("abort raises")

    def Chat(self, message: pb.ChatRequest, context: grpc.ServicerContext) -> Iterator[pb.ChatResponse]:  # noqa: N802
        with self._call("Chat", message, context):
            request = wire.chat_request_from_proto(message, LIMITS)
            words = request.turns[-1].text.lower().split()
            colours = tuple(colour for colour in COLOURS if colour in words)
            answer = self._answer(request.image, PhraseQuery(colours or ("red",)), request.options)
            block = f"<seg>{answer.descriptors[0].text}</seg>"
            text = f"It is turn {len(request.turns)}:\n{block} as asked."
            for begin in range(0, len(text), 7):
                yield wire.chat_event_to_proto(ChatText(text[begin : begin + 7]), request.options.mask_format)
                self._maybe_hold()
            begin = text.index("<seg>")
            for event in (
                ChatRegions(begin, begin + len(block), answer.regions, answer.descriptors[0]),
                ChatFinish(
                    FinishReason.STOP, Turn("assistant", text), answer.timing, VERSIONS, answer.image_size
                ),
            ):
                yield wire.chat_event_to_proto(event, request.options.mask_format, png_of_mask)

    def PutImage(  # noqa: N802
        self, messages: Iterator[pb.PutImageRequest], context: grpc.ServicerContext
    ) -> pb.PutImageResponse:
        with self._call("PutImage", None, context):
            pieces = [message.chunk for message in messages]
            self.seen[-1].chunks = [len(piece) for piece in pieces]
            data = b"".join(pieces)
            size = read(data).shape[:2]
            image_id = f"sha256-{sha256(data).hexdigest()}"
            self.images[image_id] = data
            return wire.stored_image_to_proto(StoredImage(image_id, (size[0], size[1]), 60.0))
        raise AssertionError("abort raises")

    def GetModelInfo(  # noqa: N802
        self, message: pb.GetModelInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetModelInfoResponse:
        with self._call("GetModelInfo", message, context):
            generator = GeneratorSummary("hand", "by hand", SHAPE, Codec.RRLE)
            return wire.model_info_to_proto(ModelInfo(generator, ("none",), VERSIONS, LIMITS))
        raise AssertionError("abort raises")

    @contextmanager
    def _call(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[None]:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.seen.append(Seen(method, metadata, context.time_remaining(), request))
        if self.hold:
            # The call cannot end by itself: it ends because the caller leaves.
            context.add_callback(self.cancelled.set)
        try:
            if self.api_key is not None and metadata.get("authorization") != f"Bearer {self.api_key}":
                raise UnauthenticatedError("no API key")
            if self.failures:
                raise self.failures.pop(0)
            yield
        except Text4SegError as error:
            context.abort_with_status(rpc_status.to_status(wire.error_to_status(error)))

    def _maybe_hold(self) -> None:
        if self.hold:
            self.cancelled.wait(30)

    def _answer(self, source: ImageSource, query: Query, options: SegmentOptions) -> SegmentAnswer:
        pixels = self._pixels(source)
        size = (pixels.shape[0], pixels.shape[1])
        match query:
            case OpenQuery():
                labels: tuple[str, ...] = COLOURS
            case PhraseQuery(texts):
                labels = texts
            case _:
                labels = query.labels
        regions = [
            Region(
                label=label,
                mask=part,
                grid_mask=to_grid(part, SHAPE),
                box=box,
                score=0.75,
                area=int(part.sum()),
                refined=options.refine is not RefineMode.NONE,
                split=options.split_instances,
            )
            for label in labels
            for part in parts(colour_mask(pixels, label), options.split_instances)
            if (box := box_of(part)) is not None and options.min_score <= 0.75
        ]
        descriptors = tuple(
            descriptor(label if isinstance(query, PhraseQuery) else "", colour_mask(pixels, label))
            for label in labels
        )
        warnings = (Warning_(WarningKind.REFINER_FAILED, "no refiner here"),) if "warn" in labels else ()
        return SegmentAnswer(
            regions=tuple(regions),
            descriptors=descriptors,
            image_size=size,
            no_target_score=0.125 if regions else 0.875,
            timing=Timing(total_s=0.25, generate_s=0.125, refine_s=0.0625),
            cache=CacheOutcome.BYPASS if options.cache is CacheMode.BYPASS else CacheOutcome.MISS,
            versions=VERSIONS,
            warnings=warnings,
        )

    def _pixels(self, source: ImageSource) -> NDArray[np.uint8]:
        match source:
            case ImageContent(data):
                return read(data)
            case ImageId(image_id):
                if image_id not in self.images:
                    raise ImageNotFoundError(image_id)
                return read(self.images[image_id])
        raise ImageInvalidError("image.uri", "not allowed")


def read(data: bytes) -> NDArray[np.uint8]:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError as error:
        raise ImageInvalidError("image.content", "no image that can be read") from error


def png_of_mask(mask: NDArray[np.bool_]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def colour_mask(pixels: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
    named = [colour for colour in COLOURS if colour in label.split()]
    if not named:
        return np.zeros(pixels.shape[:2], np.bool_)
    channel = COLOURS.index(named[0])
    others = [index for index in range(3) if index != channel]
    found: NDArray[np.bool_] = (pixels[..., channel] > 128) & (pixels[..., others] < 128).all(axis=-1)
    return found


def parts(mask: NDArray[np.bool_], split: bool) -> tuple[NDArray[np.bool_], ...]:
    return split_instances(mask) if split else (mask,)


def descriptor(phrase: str, mask: NDArray[np.bool_]) -> DescriptorResult:
    grid = LabelGrid.from_mask(to_grid(mask, SHAPE), phrase or "colour")
    return DescriptorResult(phrase, encode(grid), grid, DecodeReport((), (), False), FinishReason.STOP, 0.125)


@contextmanager
def serving(
    servicer: HandServicer,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, int]] = (),
) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yields host:port."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    add_SegmentationServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    add_port: Callable[[str], int] = (
        server.add_insecure_port
        if credentials is None
        else lambda address: server.add_secure_port(address, credentials)
    )
    port = add_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        assert server.stop(None).wait(STOP_S)


def picture(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Grey, with a red rectangle (10, 5)-(30, 25) and two blue ones."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[5:25, 10:30] = (220, 30, 40)
    pixels[40:50, 50:60] = (20, 40, 230)
    pixels[40:50, 65:75] = (20, 40, 230)
    return pixels


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
