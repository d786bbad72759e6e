"""One named part of an image, whose mask may wait as run lengths until somebody looks at it."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import Box, Rle, decode_rle, encode_rle
from text4seg.segmentation.equality import equal_fields

_Kind = TypeVar("_Kind")


class _Runs:
    """Run lengths, and the mask once it has been decoded."""

    __slots__ = ("pixels", "rle")

    def __init__(self, rle: Rle) -> None:
        self.rle = rle
        self.pixels: NDArray[np.bool_] | None = None


class _MaskSlot:
    """Stands before the slot of ``mask``, which holds an array, nothing, or :class:`_Runs`."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, region: object | None, kind: type) -> Any:
        if region is None:
            return self
        held = self._slot.__get__(region, kind)
        if not isinstance(held, _Runs):
            return held
        if held.pixels is None:
            held.pixels = decode_rle(held.rle)
        return held.pixels

    def __set__(self, region: object, value: object) -> None:
        self._slot.__set__(region, value)

    def runs(self, region: object) -> Rle | None:
        """The run lengths that the slot was given, if it was given any."""
        held = self._slot.__get__(region)
        return held.rle if isinstance(held, _Runs) else None


def _decoding_masks(kind: type[_Kind]) -> type[_Kind]:
    # After @dataclass: with slots there is no other moment at which the slot exists and can be wrapped.
    kind.mask = _MaskSlot(vars(kind)["mask"])  # type: ignore[attr-defined]
    return kind


@_decoding_masks
@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One named part of the image.

    Attributes:
        label: the phrase or label of the query, or what the model called it.
        mask: bool [height, width] of the upright original image. None on the client's side when the answer
            was asked for without full-size masks (formats NONE and GRID). A mask that came as COCO run
            lengths is decoded when it is first read, once; :attr:`rle` does without.
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

    @property
    def rle(self) -> Rle | None:
        """The mask as COCO run lengths: those that came, or encoded now. None where there is no mask."""
        came = _runs_of(self)
        if came is not None:
            return came
        return None if self.mask is None else encode_rle(self.mask)

    def with_rle(self, rle: Rle) -> "Region":
        """The same region with another mask, decoded when it is first read.

        Reading the mask raises InvalidInputError where the run lengths cannot be read; whoever has them from
        outside calls :func:`text4seg.masks.check_rle` first.
        """
        return replace(self, mask=cast(Any, _Runs(rle)))

    def __eq__(self, other: object) -> bool:
        return equal_fields(self, other)

    def __repr__(self) -> str:
        came = _runs_of(self)
        parts = [f"label={self.label!r}", f"score={self.score:.3g}", f"box={tuple(self.box)}"]
        parts += [f"area={self.area}"]
        parts += _extent("mask", self.mask) if came is None else [f"mask=bool{list(came.size)}"]
        parts += _extent("grid_mask", self.grid_mask) + _extent("confidence", self.confidence)
        parts += [f"{name}=True" for name in ("refined", "split") if getattr(self, name)]
        parts += [] if self.refine_score is None else [f"refine_score={self.refine_score:.3g}"]
        return f"Region({', '.join(parts)})"

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


def _runs_of(region: Region) -> Rle | None:
    rle: Rle | None = cast(Any, type(region)).mask.runs(region)
    return rle


def _extent(name: str, array: NDArray[Any] | None) -> list[str]:
    return [] if array is None else [f"{name}={array.dtype}{list(array.shape)}"]
