"""Pieces of streamed answers: StreamSegment, SegmentFrames and Chat."""

from text4seg.errors import InternalError
from text4seg.segmentation import (
    ChatEvent,
    ChatFinish,
    ChatRegions,
    ChatText,
    CoarseRegions,
    FrameAnswer,
    GridRow,
    MaskFormat,
    SegmentAnswer,
    SegmentEvent,
    Turn,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.wire.answers import (
    descriptor_from_proto,
    descriptor_to_proto,
    region_from_proto,
    region_to_proto,
    segment_answer_from_proto,
    segment_answer_to_proto,
    timing_from_proto,
    timing_to_proto,
    versions_from_proto,
    versions_to_proto,
    warnings_from_proto,
    warnings_to_proto,
)
from text4seg.wire.masks import (
    DecodePng,
    EncodePng,
)
from text4seg.wire.queries import turn_to_proto
from text4seg.wire.values import (
    FINISH_REASONS,
    reading_answer,
    size_from_proto,
    size_to_proto,
)


def segment_event_to_proto(
    event: SegmentEvent, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> pb.StreamSegmentResponse:
    """Write a piece of StreamSegment's answer; arguments as for :func:`segment_answer_to_proto`."""
    match event:
        case GridRow():
            row = pb.GridRow(descriptor=event.descriptor, row=event.row, labels=event.labels)
            return pb.StreamSegmentResponse(row=row)
        case CoarseRegions():
            regions = [region_to_proto(region, mask_format, encode_png) for region in event.regions]
            return pb.StreamSegmentResponse(coarse=pb.Regions(regions=regions))
        case SegmentAnswer():
            return pb.StreamSegmentResponse(answer=segment_answer_to_proto(event, mask_format, encode_png))


def segment_event_from_proto(
    message: pb.StreamSegmentResponse, decode_png: DecodePng | None = None
) -> SegmentEvent:
    """Read a piece of StreamSegment's answer; errors as for :func:`segment_answer_from_proto`."""
    kind = message.WhichOneof("event")
    if kind == "row":
        return GridRow(message.row.descriptor, message.row.row, tuple(message.row.labels))
    if kind == "coarse":
        with reading_answer():
            regions = (region_from_proto(region, decode_png=decode_png) for region in message.coarse.regions)
            return CoarseRegions(tuple(regions))
    if kind == "answer":
        return segment_answer_from_proto(message.answer, decode_png)
    raise InternalError("the answer holds a piece of a kind that is not known here")


def frame_answer_to_proto(
    answer: FrameAnswer, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> pb.SegmentFramesResponse:
    """Write the answer for one frame; arguments as for :func:`segment_answer_to_proto`."""
    return pb.SegmentFramesResponse(
        sequence=answer.sequence,
        answer=segment_answer_to_proto(answer.answer, mask_format, encode_png),
        dropped=answer.dropped,
    )


def frame_answer_from_proto(
    message: pb.SegmentFramesResponse, decode_png: DecodePng | None = None
) -> FrameAnswer:
    """Read the answer for one frame; errors as for :func:`segment_answer_from_proto`."""
    return FrameAnswer(
        message.sequence, segment_answer_from_proto(message.answer, decode_png), message.dropped
    )


def chat_event_to_proto(
    event: ChatEvent, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> pb.ChatResponse:
    """Write a piece of Chat's answer; arguments as for :func:`segment_answer_to_proto`."""
    match event:
        case ChatText(text):
            return pb.ChatResponse(text=text)
        case ChatRegions():
            regions = pb.ChatRegions(
                begin=event.begin,
                end=event.end,
                regions=[region_to_proto(region, mask_format, encode_png) for region in event.regions],
                descriptor=descriptor_to_proto(event.descriptor),
            )
            return pb.ChatResponse(regions=regions)
        case ChatFinish():
            finish = pb.ChatFinish(
                reason=FINISH_REASONS.to_proto(event.reason),
                turn=turn_to_proto(event.turn),
                timing=timing_to_proto(event.timing),
                versions=versions_to_proto(event.versions),
                image_size=size_to_proto(event.image_size),
                warnings=warnings_to_proto(event.warnings),
            )
            return pb.ChatResponse(finish=finish)


def chat_event_from_proto(message: pb.ChatResponse, decode_png: DecodePng | None = None) -> ChatEvent:
    """Read a piece of Chat's answer; errors as for :func:`segment_answer_from_proto`."""
    kind = message.WhichOneof("event")
    if kind == "text":
        return ChatText(message.text)
    if kind == "regions":
        found = message.regions
        with reading_answer():
            return ChatRegions(
                begin=found.begin,
                end=found.end,
                regions=tuple(region_from_proto(region, decode_png=decode_png) for region in found.regions),
                descriptor=descriptor_from_proto(found.descriptor),
            )
    if kind == "finish":
        finish = message.finish
        return ChatFinish(
            reason=FINISH_REASONS.from_answer(finish.reason),
            turn=Turn("assistant", finish.turn.text),
            timing=timing_from_proto(finish.timing),
            versions=versions_from_proto(finish.versions),
            image_size=size_from_proto(finish.image_size),
            warnings=warnings_from_proto(finish.warnings),
        )
    raise InternalError("the answer holds a piece of a kind that is not known here")
