"""What comes back from the public API."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from text4seg.descriptors import Codec, DecodeReport, LabelGrid
from text4seg.masks import Box
from text4seg.segmentation.region import Region
from text4seg.segmentation.requests import Limits, Turn


class CacheOutcome(StrEnum):
    """Where an answer came from."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"
    SHARED = "shared"
    """Computed by another identical call that was under way."""


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    """The token limit was reached; the answer is cut off."""


class WarningKind(StrEnum):
    """A way in which an answer is less than what was asked for."""

    REFINER_FAILED = "refiner_failed"
    REFINER_DISAGREED = "refiner_disagreed"
    DESCRIPTOR_REPAIRED = "descriptor_repaired"


@dataclass(frozen=True, slots=True)
class DescriptorResult:
    """What the model wrote for one part of the query, and what became of it."""

    phrase: str
    """The phrase that was asked for; empty for label lists and open vocabulary."""
    text: str
    """The model's whole answer."""
    grid: LabelGrid
    report: DecodeReport
    finish_reason: FinishReason
    no_target_score: float
    """Probability that nothing in the image matches the phrase, or any label."""

    def __repr__(self) -> str:
        rows, columns = self.grid.shape
        return (
            f"DescriptorResult(phrase={self.phrase!r}, grid={rows}x{columns}, "
            f"labels={self.grid.labels[1:]!r}, repairs={len(self.report.repairs)}, "
            f"finish_reason={self.finish_reason}, no_target_score={self.no_target_score:.3g})"
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds spent per stage; None for stages that did not run."""

    total_s: float = 0.0
    image_s: float | None = None
    cache_s: float | None = None
    generate_s: float | None = None
    decode_s: float | None = None
    refine_s: float | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What an answer depends on besides the request."""

    model: str = ""
    codec: str = ""
    templates: str = ""
    refiner: str = ""
    """Empty when the refiner was not used."""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801 - "Warning" is a built-in exception
    """A way in which an answer is less than what was asked for, and one sentence for a person."""

    kind: WarningKind
    message: str


@dataclass(frozen=True, slots=True)
class SegmentAnswer:
    """A complete answer of Segment.

    Attributes:
        regions: in the order of the query; within one phrase by falling score.
        descriptors: one per phrase, or one for a label list or open vocabulary.
        image_size: (height, width) of the upright image that boxes and masks refer to.
        no_target_score: probability that nothing at all was there: the smallest of the descriptors'.
        timing: where the time went.
        cache: where the answer came from.
        versions: what the answer depends on.
        warnings: ways in which the answer is less than what was asked for.
    """

    regions: tuple[Region, ...]
    descriptors: tuple[DescriptorResult, ...]
    image_size: tuple[int, int]
    no_target_score: float
    timing: Timing
    cache: CacheOutcome
    versions: Versions
    warnings: tuple[Warning_, ...] = ()

    def __repr__(self) -> str:
        return f"SegmentAnswer(regions={_found(self.regions)}, {_rest(self)})"


@dataclass(frozen=True, slots=True)
class GridRow:
    """One decoded row of a descriptor: the label of each cell, from left to right."""

    descriptor: int
    """Which of the query's phrases the row belongs to; 0 for label lists and open vocabulary."""
    row: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CoarseRegions:
    """All regions before refinement."""

    regions: tuple[Region, ...]


SegmentEvent: TypeAlias = GridRow | CoarseRegions | SegmentAnswer
"""A piece of StreamSegment's answer: rows, then the coarse regions once, then the complete answer."""


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """The answer for one frame, and how many stale frames were dropped since the last one."""

    sequence: int
    answer: SegmentAnswer
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Detection:
    """One named box."""

    label: str
    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class DetectAnswer:
    """A complete answer of Detect; fields as in :class:`SegmentAnswer`."""

    detections: tuple[Detection, ...]
    image_size: tuple[int, int]
    no_target_score: float
    timing: Timing
    cache: CacheOutcome
    versions: Versions
    warnings: tuple[Warning_, ...] = ()

    def __repr__(self) -> str:
        return f"DetectAnswer(detections={_found(self.detections)}, {_rest(self)})"


@dataclass(frozen=True, slots=True)
class ChatText:
    """Characters written since the last piece."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatRegions:
    """The regions of one descriptor block; begin and end are its character offsets in the answer."""

    begin: int
    end: int
    regions: tuple[Region, ...]
    descriptor: DescriptorResult


@dataclass(frozen=True, slots=True)
class ChatFinish:
    """The end of a chat answer; turn is the assistant's turn to send along with the next question."""

    reason: FinishReason
    turn: Turn
    timing: Timing
    versions: Versions
    image_size: tuple[int, int]
    warnings: tuple[Warning_, ...] = ()


ChatEvent: TypeAlias = ChatText | ChatRegions | ChatFinish
"""A piece of Chat's answer; exactly one ChatFinish comes last."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An uploaded image: its id, (height, width), and how long it is kept at least, in seconds."""

    id: str
    size: tuple[int, int]
    time_to_live_s: float


@dataclass(frozen=True, slots=True)
class GeneratorSummary:
    """The generator's model as clients need it; shape is (rows, columns) of the descriptor grid."""

    model: str
    engine: str
    shape: tuple[int, int]
    codec: Codec


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The models behind a server, their versions, and its limits."""

    generator: GeneratorSummary
    refiner_models: tuple[str, ...]
    """The default first; empty when there is no refiner."""
    versions: Versions
    limits: Limits


_MOST = 5


def _found(found: Sequence[Region | Detection]) -> str:
    """What was found, for a repr: ``['cat' 0.93, 'dog' 0.41]``."""
    texts = [f"{one.label!r} {one.score:.3g}" for one in found[:_MOST]]
    more = [f"... {len(found) - _MOST} more"] if len(found) > _MOST else []
    return f"[{', '.join(texts + more)}]"


def _rest(answer: SegmentAnswer | DetectAnswer) -> str:
    warnings = f", warnings={[warning.kind.value for warning in answer.warnings]}" if answer.warnings else ""
    return (
        f"image_size={answer.image_size}, no_target_score={answer.no_target_score:.3g}, "
        f"total_s={answer.timing.total_s:.3g}, cache={answer.cache}{warnings}"
    )
