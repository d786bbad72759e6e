"""What comes back from the public API."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import Codec, DecodeReport, LabelGrid
from text4seg.masks import Box
from text4seg.segmentation.equality import equal_fields, repr_fields
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


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One named part of the image.

    Attributes:
        label: the phrase or label of the query, or what the model called it.
        mask: bool [height, width] of the upright original image. None on the client's side when the answer
            was asked for without full-size masks (formats NONE and GRID).
        grid_mask: bool [rows, columns], the coarse mask on the descriptor grid. None on the client's side
            for every format but GRID.
        box: the tight box around the mask.
        score: mean probability of the region's cells.
        area: pixels of the full-size mask.
        refined: whether the refiner made the mask; otherwise it is the upsampled coarse mask.
        split: whether the region is one connected component of what the model marked.
        confidence: float32 [rows, columns], probability of the label per cell, when asked for.
        refine_score: the refiner's own estimate of the mask's quality; None for coarse masks.
    """

    label: str
    mask: NDArray[np.bool_] | None
    grid_mask: NDArray[np.bool_] | None
    box: Box
    score: float
    area: int
    refined: bool = False
    split: bool = False
    confidence: NDArray[np.float32] | None = None
    refine_score: float | None = None

    def __eq__(self, other: object) -> bool:
        return equal_fields(self, other)

    def __repr__(self) -> str:
        return repr_fields(self)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


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
