"""The public domain: what a caller asks, what the services tell each other, and what comes back.

Everything here is a frozen value. Sizes and shapes are (height, width) and (rows, columns); masks are bool
arrays [height, width] of the upright original image; boxes are half-open XYXY in its pixels; scores and
probabilities run from 0 to 1; durations are seconds. Field names and defaults follow ``protos/text4seg/v1``;
:mod:`text4seg.wire` translates, and validates what comes from outside.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import Codec, DecodeReport, LabelGrid
from text4seg.masks import Box
from text4seg.scores import Calibration, TokenLogprob


class RefineMode(StrEnum):
    """What the refiner is for."""

    NONE = "none"
    """Coarse masks only."""
    AUTO = "auto"
    """Refine; where the refiner fails or disagrees, answer coarse with a warning."""
    REQUIRED = "required"
    """Refine; where the refiner fails, fail."""


class MaskFormat(StrEnum):
    """How masks are written in an answer."""

    NONE = "none"
    GRID = "grid"
    COCO_RLE = "coco_rle"
    PNG = "png"
    POLYGON = "polygon"


class CacheMode(StrEnum):
    """How the result cache takes part."""

    DEFAULT = "default"
    """Read and write."""
    BYPASS = "bypass"
    """Neither read nor write."""
    REFRESH = "refresh"
    """Compute anew and write."""


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
class Limits:
    """The largest requests that a server takes."""

    image_bytes: int = 16 << 20
    """Bytes of an image file."""
    image_pixels: int = 50_000_000
    phrases: int = 32
    """Phrases or labels in one query."""
    phrase_characters: int = 256
    """Characters of a phrase or label, in canonical form."""
    turns: int = 32
    conversation_characters: int = 16384
    """Characters of all turns of a conversation together."""


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An encoded image file: JPEG, PNG, WebP, BMP or TIFF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ImageId:
    """An image that was uploaded before, by its content hash."""

    id: str


@dataclass(frozen=True, slots=True)
class ImageUri:
    """The address of an image that the server fetches, where the operator allows that."""

    uri: str


ImageSource: TypeAlias = ImageContent | ImageId | ImageUri


@dataclass(frozen=True, slots=True)
class PhraseQuery:
    """Independent referring expressions, answered once each and in order; each may match any number of objects."""

    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelQuery:
    """Semantic segmentation by a closed list of distinct labels."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenQuery:
    """Open vocabulary: the model names what it sees."""


Query: TypeAlias = PhraseQuery | LabelQuery | OpenQuery


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """What shapes an answer."""

    refine: RefineMode = RefineMode.AUTO
    """Chat and Detect default to NONE: their requests say so."""
    mask_format: MaskFormat = MaskFormat.COCO_RLE
    confidence_map: bool = False
    """Whether each region carries its per-cell probabilities."""
    min_score: float = 0.0
    split_instances: bool = False
    """Whether regions are split into connected components (a heuristic)."""
    cache: CacheMode = CacheMode.DEFAULT
    seed: int = 0
    """Seed of everything random, not negative."""
    strict: bool = False
    """Whether text that had to be repaired is an error."""
    refiner_model: str = ""
    """Which of the refiner's models to use; empty: its default."""


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """One image and one query; Segment and StreamSegment take the same."""

    image: ImageSource
    query: Query
    options: SegmentOptions = SegmentOptions()


@dataclass(frozen=True, slots=True)
class DetectRequest:
    """One image and one query, to be answered with boxes."""

    image: ImageSource
    query: Query
    options: SegmentOptions = SegmentOptions(refine=RefineMode.NONE, mask_format=MaskFormat.NONE)
    """Only refine, min_score, split_instances, cache and seed are part of the public call."""


@dataclass(frozen=True, slots=True)
class FramesSettings:
    """What to do with the frames of a SegmentFrames call."""

    query: Query
    options: SegmentOptions = SegmentOptions()


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a stream, under the caller's number."""

    sequence: int
    image: ImageSource


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation. An assistant's turn may hold ``<seg>`` blocks."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation about one image: user and assistant in turn, the user first and last."""

    image: ImageSource
    turns: tuple[Turn, ...]
    options: SegmentOptions = SegmentOptions(refine=RefineMode.NONE)
    max_tokens: int | None = None
    """Most tokens to write; None: the model's own limit."""


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
        return _equal_fields(self, other)

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


@dataclass(frozen=True, slots=True)
class DescriptorConstraint:
    """Forces an answer to be one sentence and one well-formed block; no labels: open vocabulary."""

    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One conversation about one image, for the generator.

    Attributes:
        image: the encoded file.
        turns: user and assistant in turn, the user first and last. The image belongs to the first.
        constraint: None for free text.
        max_tokens: None: the model's own limit.
        logprobs: whether to return the log-probabilities of the tokens.
    """

    image: bytes
    turns: tuple[Turn, ...]
    constraint: DescriptorConstraint | None = None
    max_tokens: int | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class GenerateFinish:
    """How an answer of the generator ended."""

    reason: FinishReason
    prompt_tokens: int = 0
    """Tokens read: image, conversation and template."""
    completion_tokens: int = 0
    forced_tokens: int = 0
    """Tokens of the answer that the constraint left no choice about."""
    queue_s: float = 0.0
    prefill_s: float = 0.0
    """Time until the first token."""
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TextChunk:
    """The next characters of an answer, with their tokens; finish is set in the last chunk only."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: GenerateFinish | None = None


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """The loaded language model.

    Attributes:
        model: its name.
        version: identifies weights and preprocessing: answers of one version can be compared and cached.
        engine: "hf", "triton" or "scripted".
        shape: (rows, columns) of the descriptor grid that the model was trained for.
        codec: how it writes descriptors.
        template_version: version of the templates that it was trained with.
        max_tokens: most tokens of one answer.
        calibration: of its confidence.
    """

    model: str
    version: str
    engine: str
    shape: tuple[int, int]
    codec: Codec
    template_version: str
    max_tokens: int
    calibration: Calibration


@dataclass(frozen=True, slots=True, eq=False)
class RefineRequest:
    """One image and the regions to sharpen.

    Attributes:
        image: the encoded file.
        coarse: float32 arrays [rows, columns] over the squashed image, 0 to 1: coarse masks or probabilities.
        seed: of the point prompts, not negative.
        model: which of the loaded models to use; empty: the default.
    """

    image: bytes
    coarse: tuple[NDArray[np.float32], ...]
    seed: int = 0
    model: str = ""

    def __eq__(self, other: object) -> bool:
        return _equal_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


@dataclass(frozen=True, slots=True, eq=False)
class RefinedMask:
    """The answer for one coarse mask.

    Attributes:
        mask: bool [height, width] of the upright original image.
        score: the refiner's own estimate of the mask's quality.
        agreement: intersection over union of refined and upsampled coarse mask; 1 when both are empty.
    """

    mask: NDArray[np.bool_]
    score: float
    agreement: float

    def __eq__(self, other: object) -> bool:
        return _equal_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


@dataclass(frozen=True, slots=True)
class RefineAnswer:
    """One refined mask per coarse mask, in order, by the named model."""

    masks: tuple[RefinedMask, ...]
    model: str
    queue_s: float = 0.0
    embed_s: float = 0.0
    """Near zero when the image's encoding was still at hand."""
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RefinerInfo:
    """The loaded refiner models: the default's name and version, and all names, the default first."""

    model: str
    version: str
    models: tuple[str, ...]


def _equal_fields(left: Any, right: object) -> bool:
    if type(left) is not type(right):
        return NotImplemented
    return all(_equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))


def _equal(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right))
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left is right or bool(left == right)
