"""Requests of the public API. What comes out of reading one can be worked on: everything is checked."""

from dataclasses import replace

from text4seg.errors import OptionInvalidError, QueryInvalidError
from text4seg.segmentation import (
    ChatRequest,
    DetectRequest,
    Frame,
    FramesSettings,
    Limits,
    MaskFormat,
    RefineMode,
    SegmentOptions,
    SegmentRequest,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.wire.queries import (
    image_from_proto,
    image_to_proto,
    query_from_proto,
    query_to_proto,
    turn_to_proto,
    turns_from_proto,
)
from text4seg.wire.values import CACHE_MODES, MASK_FORMATS, REFINE_MODES, check_share

MAX_MODEL_NAME_CHARACTERS = 128


_SEGMENT_DEFAULTS = SegmentOptions()


_CHAT_DEFAULTS = SegmentOptions(refine=RefineMode.NONE)


_DETECT_DEFAULTS = SegmentOptions(refine=RefineMode.NONE, mask_format=MaskFormat.NONE)


def segment_request_from_proto(
    message: pb.SegmentRequest | pb.StreamSegmentRequest, limits: Limits
) -> SegmentRequest:
    """Check and return a request of Segment or StreamSegment.

    Raises:
        InvalidInputError: one of its subclasses, naming the field.
    """
    return SegmentRequest(
        image=image_from_proto(message.image, limits),
        query=query_from_proto(message.query, limits),
        options=options_from_proto(message.options),
    )


def segment_request_to_proto(request: SegmentRequest) -> pb.SegmentRequest:
    """Write a request of Segment."""
    return pb.SegmentRequest(
        image=image_to_proto(request.image),
        query=query_to_proto(request.query),
        options=options_to_proto(request.options),
    )


def stream_segment_request_to_proto(request: SegmentRequest) -> pb.StreamSegmentRequest:
    """Write a request of StreamSegment."""
    return pb.StreamSegmentRequest(
        image=image_to_proto(request.image),
        query=query_to_proto(request.query),
        options=options_to_proto(request.options),
    )


def detect_request_from_proto(message: pb.DetectRequest, limits: Limits) -> DetectRequest:
    """Check and return a request of Detect.

    Raises:
        InvalidInputError: one of its subclasses, naming the field.
    """
    return DetectRequest(
        image=image_from_proto(message.image, limits),
        query=query_from_proto(message.query, limits),
        options=replace(
            _DETECT_DEFAULTS,
            refine=REFINE_MODES.from_request(message.refine, "refine", _DETECT_DEFAULTS.refine),
            min_score=check_share(message.min_score, "min_score"),
            split_instances=message.split_instances,
            cache=CACHE_MODES.from_request(message.cache, "cache", _DETECT_DEFAULTS.cache),
            seed=check_not_negative(message.seed, "seed"),
        ),
    )


def detect_request_to_proto(request: DetectRequest) -> pb.DetectRequest:
    """Write a request of Detect; options that are not part of the call are left out."""
    return pb.DetectRequest(
        image=image_to_proto(request.image),
        query=query_to_proto(request.query),
        refine=REFINE_MODES.to_proto(request.options.refine),
        min_score=request.options.min_score,
        split_instances=request.options.split_instances,
        cache=CACHE_MODES.to_proto(request.options.cache),
        seed=request.options.seed,
    )


def chat_request_from_proto(message: pb.ChatRequest, limits: Limits) -> ChatRequest:
    """Check and return a request of Chat.

    Raises:
        InvalidInputError: one of its subclasses, naming the field.
    """
    return ChatRequest(
        image=image_from_proto(message.image, limits),
        turns=turns_from_proto(message.turns, limits),
        options=options_from_proto(message.options, _CHAT_DEFAULTS),
        max_tokens=check_not_negative(message.max_tokens, "max_tokens") or None,
    )


def chat_request_to_proto(request: ChatRequest) -> pb.ChatRequest:
    """Write a request of Chat."""
    return pb.ChatRequest(
        image=image_to_proto(request.image),
        turns=[turn_to_proto(turn) for turn in request.turns],
        options=options_to_proto(request.options),
        max_tokens=request.max_tokens or 0,
    )


def frames_request_from_proto(message: pb.SegmentFramesRequest, limits: Limits) -> FramesSettings | Frame:
    """Check and return a message of SegmentFrames; the order of messages is the servicer's to check.

    Raises:
        InvalidInputError: one of its subclasses, naming the field.
    """
    kind = message.WhichOneof("message")
    if kind == "settings":
        return FramesSettings(
            query=query_from_proto(message.settings.query, limits, "settings.query"),
            options=options_from_proto(message.settings.options, field="settings.options"),
        )
    if kind == "frame":
        image = image_from_proto(message.frame.image, limits, "frame.image")
        return Frame(sequence=message.frame.sequence, image=image)
    raise QueryInvalidError("message", "must hold settings or a frame")


def frames_request_to_proto(message: FramesSettings | Frame) -> pb.SegmentFramesRequest:
    """Write a message of SegmentFrames."""
    if isinstance(message, Frame):
        frame = pb.Frame(sequence=message.sequence, image=image_to_proto(message.image))
        return pb.SegmentFramesRequest(frame=frame)
    settings = pb.FramesSettings(
        query=query_to_proto(message.query), options=options_to_proto(message.options)
    )
    return pb.SegmentFramesRequest(settings=settings)


def options_from_proto(
    message: pb.SegmentOptions, default: SegmentOptions = _SEGMENT_DEFAULTS, field: str = "options"
) -> SegmentOptions:
    """Return the options; enums that are unset take their value from `default`.

    Raises:
        OptionInvalidError: a value is out of range or unknown.
    """
    return SegmentOptions(
        refine=REFINE_MODES.from_request(message.refine, f"{field}.refine", default.refine),
        mask_format=MASK_FORMATS.from_request(
            message.mask_format, f"{field}.mask_format", default.mask_format
        ),
        confidence_map=message.confidence_map,
        min_score=check_share(message.min_score, f"{field}.min_score"),
        split_instances=message.split_instances,
        cache=CACHE_MODES.from_request(message.cache, f"{field}.cache", default.cache),
        seed=check_not_negative(message.seed, f"{field}.seed"),
        strict=message.strict,
        refiner_model=check_model_name(message.refiner_model, f"{field}.refiner_model"),
    )


def options_to_proto(options: SegmentOptions) -> pb.SegmentOptions:
    """Write the options, enums always spelled out."""
    return pb.SegmentOptions(
        refine=REFINE_MODES.to_proto(options.refine),
        mask_format=MASK_FORMATS.to_proto(options.mask_format),
        confidence_map=options.confidence_map,
        min_score=options.min_score,
        split_instances=options.split_instances,
        cache=CACHE_MODES.to_proto(options.cache),
        seed=options.seed,
        strict=options.strict,
        refiner_model=options.refiner_model,
    )


def check_not_negative(number: int, field: str) -> int:
    """Return a number that is 0 or more.

    Raises:
        OptionInvalidError: it is not.
    """
    if number < 0:
        raise OptionInvalidError(field, "must not be negative")
    return number


def check_model_name(name: str, field: str) -> str:
    """Return a name that may be a model's; empty stands for the default.

    Raises:
        OptionInvalidError: it is too long or holds control characters.
    """
    if len(name) > MAX_MODEL_NAME_CHARACTERS or not name.isprintable():
        raise OptionInvalidError(field, "is not the name of a model")
    return name
