"""Complete answers of the public API, written by the server and read by clients."""

from collections.abc import Iterable

from text4seg.descriptors import DecodeReport, Repair
from text4seg.segmentation import (
    DescriptorResult,
    DetectAnswer,
    Detection,
    MaskFormat,
    Region,
    SegmentAnswer,
    StoredImage,
    Timing,
    Versions,
    Warning_,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.wire.masks import (
    DecodePng,
    EncodePng,
    grid_from_proto,
    grid_to_proto,
    label_grid_from_proto,
    label_grid_to_proto,
    mask_to_proto,
    region_with_mask,
)
from text4seg.wire.values import (
    CACHE_OUTCOMES,
    FINISH_REASONS,
    REPAIR_KINDS,
    WARNING_KINDS,
    box_from_proto,
    box_to_proto,
    duration_from_proto,
    duration_to_proto,
    reading_answer,
    size_from_proto,
    size_to_proto,
)

_STAGES = ("total", "image", "cache", "generate", "decode", "refine")


def segment_answer_to_proto(
    answer: SegmentAnswer, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> pb.SegmentResponse:
    """Write an answer with its masks in one format.

    Args:
        answer: regions need mask or grid_mask, whichever the format writes.
        mask_format: from the request's options.
        encode_png: needed for format PNG only.

    Raises:
        TypeError: what the format needs is missing.
    """
    return pb.SegmentResponse(
        regions=[region_to_proto(region, mask_format, encode_png) for region in answer.regions],
        descriptors=[descriptor_to_proto(descriptor) for descriptor in answer.descriptors],
        image_size=size_to_proto(answer.image_size),
        no_target_score=answer.no_target_score,
        timing=timing_to_proto(answer.timing),
        cache=CACHE_OUTCOMES.to_proto(answer.cache),
        versions=versions_to_proto(answer.versions),
        warnings=warnings_to_proto(answer.warnings),
    )


def segment_answer_from_proto(
    message: pb.SegmentResponse, decode_png: DecodePng | None = None
) -> SegmentAnswer:
    """Read an answer.

    Args:
        message: the answer.
        decode_png: needed for masks of format PNG only.

    Raises:
        InternalError: the answer contradicts itself or holds what this version does not know.
        TypeError: a mask is a PNG and decode_png was not passed.
    """
    with reading_answer():
        size = size_from_proto(message.image_size)
        return SegmentAnswer(
            regions=tuple(region_from_proto(region, size, decode_png) for region in message.regions),
            descriptors=tuple(descriptor_from_proto(descriptor) for descriptor in message.descriptors),
            image_size=size,
            no_target_score=message.no_target_score,
            timing=timing_from_proto(message.timing),
            cache=CACHE_OUTCOMES.from_answer(message.cache),
            versions=versions_from_proto(message.versions),
            warnings=warnings_from_proto(message.warnings),
        )


def detect_answer_to_proto(answer: DetectAnswer) -> pb.DetectResponse:
    """Write an answer of Detect."""
    return pb.DetectResponse(
        detections=[
            pb.Detection(label=found.label, box=box_to_proto(found.box), score=found.score)
            for found in answer.detections
        ],
        image_size=size_to_proto(answer.image_size),
        no_target_score=answer.no_target_score,
        timing=timing_to_proto(answer.timing),
        cache=CACHE_OUTCOMES.to_proto(answer.cache),
        versions=versions_to_proto(answer.versions),
        warnings=warnings_to_proto(answer.warnings),
    )


def detect_answer_from_proto(message: pb.DetectResponse) -> DetectAnswer:
    """Read an answer of Detect.

    Raises:
        InternalError: the answer holds what this version does not know.
    """
    return DetectAnswer(
        detections=tuple(
            Detection(found.label, box_from_proto(found.box), found.score) for found in message.detections
        ),
        image_size=size_from_proto(message.image_size),
        no_target_score=message.no_target_score,
        timing=timing_from_proto(message.timing),
        cache=CACHE_OUTCOMES.from_answer(message.cache),
        versions=versions_from_proto(message.versions),
        warnings=warnings_from_proto(message.warnings),
    )


def stored_image_to_proto(image: StoredImage) -> pb.PutImageResponse:
    """Write the answer of PutImage."""
    return pb.PutImageResponse(
        id=image.id, size=size_to_proto(image.size), time_to_live=duration_to_proto(image.time_to_live_s)
    )


def stored_image_from_proto(message: pb.PutImageResponse) -> StoredImage:
    """Read the answer of PutImage."""
    return StoredImage(message.id, size_from_proto(message.size), duration_from_proto(message.time_to_live))


def region_to_proto(
    region: Region, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> pb.Region:
    """Write a region; arguments as for :func:`segment_answer_to_proto`."""
    return pb.Region(
        label=region.label,
        mask=mask_to_proto(region, mask_format, encode_png),
        box=box_to_proto(region.box),
        score=region.score,
        area=region.area,
        refined=region.refined,
        split=region.split,
        confidence=None if region.confidence is None else grid_to_proto(region.confidence),
        refine_score=region.refine_score,
    )


def region_from_proto(
    message: pb.Region, size: tuple[int, int] | None = None, decode_png: DecodePng | None = None
) -> Region:
    """Read a region.

    Args:
        message: the region.
        size: (height, width) that a full-size mask must have; None: any.
        decode_png: needed for format PNG only.

    Raises:
        ValueError: mask or confidence map cannot be read.
        InvalidInputError: the mask cannot be read.
        TypeError: the mask is a PNG and decode_png was not passed.
    """
    region = Region(
        label=message.label,
        mask=None,
        grid_mask=None,
        box=box_from_proto(message.box),
        score=message.score,
        area=message.area,
        refined=message.refined,
        split=message.split,
        confidence=grid_from_proto(message.confidence) if message.HasField("confidence") else None,
        refine_score=message.refine_score if message.HasField("refine_score") else None,
    )
    return region_with_mask(region, message.mask, size, decode_png)


def timing_to_proto(timing: Timing) -> pb.Timing:
    """Write seconds per stage; stages that did not run stay unset."""
    seconds = {stage: getattr(timing, f"{stage}_s") for stage in _STAGES}
    return pb.Timing(
        **{stage: duration_to_proto(spent) for stage, spent in seconds.items() if spent is not None}
    )


def timing_from_proto(message: pb.Timing) -> Timing:
    """Return seconds per stage."""
    return Timing(
        **{
            f"{stage}_s": duration_from_proto(getattr(message, stage))
            for stage in _STAGES
            if message.HasField(stage)
        }
    )


def versions_to_proto(versions: Versions) -> pb.Versions:
    """Write what an answer depends on."""
    return pb.Versions(
        model=versions.model,
        codec=versions.codec,
        templates=versions.templates,
        refiner=versions.refiner,
        server=versions.server,
    )


def versions_from_proto(message: pb.Versions) -> Versions:
    """Return what an answer depends on."""
    return Versions(message.model, message.codec, message.templates, message.refiner, message.server)


def descriptor_to_proto(descriptor: DescriptorResult) -> pb.Descriptor:
    """Write what the model wrote and what became of it."""
    return pb.Descriptor(
        phrase=descriptor.phrase,
        text=descriptor.text,
        grid=label_grid_to_proto(descriptor.grid),
        repairs=[
            pb.Repair(
                kind=REPAIR_KINDS.to_proto(repair.kind),
                row=repair.row,
                column=repair.column,
                detail=repair.detail,
            )
            for repair in descriptor.report.repairs
        ],
        unknown_labels=descriptor.report.unknown_labels,
        finish_reason=FINISH_REASONS.to_proto(descriptor.finish_reason),
        no_target_score=descriptor.no_target_score,
        truncated=descriptor.report.truncated,
    )


def descriptor_from_proto(message: pb.Descriptor) -> DescriptorResult:
    """Read what the model wrote and what became of it.

    Raises:
        ValueError: the grid contradicts itself.
        LabelInvalidError: a label is none that a descriptor can hold.
        InternalError: it holds what this version does not know.
    """
    repairs = tuple(
        Repair(REPAIR_KINDS.from_answer(repair.kind), repair.row, repair.column, repair.detail)
        for repair in message.repairs
    )
    return DescriptorResult(
        phrase=message.phrase,
        text=message.text,
        grid=label_grid_from_proto(message.grid),
        report=DecodeReport(repairs, tuple(message.unknown_labels), message.truncated),
        finish_reason=FINISH_REASONS.from_answer(message.finish_reason),
        no_target_score=message.no_target_score,
    )


def warnings_to_proto(warnings: Iterable[Warning_]) -> list[pb.Warning]:
    """Write warnings."""
    return [
        pb.Warning(kind=WARNING_KINDS.to_proto(warning.kind), message=warning.message) for warning in warnings
    ]


def warnings_from_proto(messages: Iterable[pb.Warning]) -> tuple[Warning_, ...]:
    """Read warnings.

    Raises:
        InternalError: one is of a kind that this version does not know.
    """
    return tuple(Warning_(WARNING_KINDS.from_answer(message.kind), message.message) for message in messages)
