"""What a caller asks of the public API."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias


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

    def __repr__(self) -> str:
        return f"ImageContent({len(self.data)} bytes)"


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
    """Independent referring expressions, answered once each and in order; each may match several objects."""

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
    """Whether text is an error that had to be repaired in a way that may have changed the grid."""
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
