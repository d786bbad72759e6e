"""COCO run-length encoding of masks, byte-compatible with pycocotools in both directions.

A mask is read column by column (Fortran order); runs alternate background, foreground, background, ...,
and the first may be 0 long. The compressed text writes each run, from the fourth on as the difference to
the run two places before it, in groups of five bits, least significant first: a sixth bit says that more
follow, the top bit of the last group is the sign, and 48 is added to make a printable character. The
format is that of the COCO API (``maskApi.c``, functions ``rleToString`` and ``rleFrString``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from text4seg.errors import InvalidInputError

MAX_MASK_PIXELS = 1 << 27
"""Largest mask, in pixels, that untrusted text may ask for."""

_FIRST_CHARACTER = 48
_MAX_GROUPS = 7  # 35 bits: the difference of two 32-bit runs, with its sign


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask as COCO's compressed run-length text.

    Attributes:
        size: (height, width) in pixels.
        counts: the compressed runs, ASCII characters from ``0`` to ``o``.
    """

    size: tuple[int, int]
    counts: str

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, object]) -> "Rle":
        """Read ``{"size": [height, width], "counts": ...}`` as found in COCO files and pycocotools.

        Args:
            segmentation: counts may be compressed (str or ASCII bytes) or a plain list of run lengths.
                Compressed counts are not examined here: :func:`decode_rle` does that.

        Raises:
            InvalidInputError: a key is missing or has another type, or plain runs do not fill the size.
        """
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(size, Sequence) or isinstance(size, str | bytes) or len(size) != 2:
            raise InvalidInputError("size", "must be [height, width]")
        height, width = size
        _check_size((height, width), MAX_MASK_PIXELS)
        if isinstance(counts, bytes):
            counts = counts.decode("ascii", errors="replace")
        if isinstance(counts, str):
            return cls((height, width), counts)
        if not isinstance(counts, Sequence):
            raise InvalidInputError("counts", "must be text or a list of run lengths")
        try:
            numbers = np.array(counts)
            runs = numbers.astype(np.int64, casting="safe")
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInputError("counts", "run lengths must be integers") from error
        _check_runs(runs, (height, width))
        return cls((height, width), _write_runs(runs))

    def to_coco(self) -> dict[str, object]:
        """Return ``{"size": [height, width], "counts": str}``, ready for JSON."""
        return {"size": list(self.size), "counts": self.counts}


def encode_rle(mask: NDArray[np.bool_]) -> Rle:
    """Encode a mask; the counts equal those of ``pycocotools.mask.encode``.

    Args:
        mask: [height, width], at least one pixel; non-zero is foreground.

    Raises:
        ValueError: the mask is not two-dimensional or has no pixel.
    """
    height, width = mask.shape
    pixels = np.asarray(mask, dtype=np.bool_).ravel(order="F")
    if not pixels.size:
        raise ValueError("a mask needs at least one pixel")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    opening = [0, 0] if pixels[0] else [0]
    return Rle((height, width), _write_runs(np.diff(np.concatenate((opening, changes, [pixels.size])))))


def decode_rle(rle: Rle, *, max_pixels: int = MAX_MASK_PIXELS) -> NDArray[np.bool_]:
    """Decode to a mask, bool [height, width], C order.

    Nothing is allocated before the size is known to be allowed, and working memory is proportional to
    the text and the mask.

    Raises:
        InvalidInputError: field ``size`` (not positive, more than max_pixels) or ``counts`` (a character
            outside the alphabet, an unfinished or over-long number, a negative run, runs that do not add
            up to height x width).
    """
    height, width = rle.size
    runs = _runs_of(rle, max_pixels)
    foreground = np.arange(runs.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(foreground, runs).reshape(width, height).T)


def check_rle(rle: Rle, *, max_pixels: int = MAX_MASK_PIXELS) -> None:
    """Make sure that :func:`decode_rle` can decode it; takes time and memory for the text, not for the mask.

    Raises:
        InvalidInputError: as :func:`decode_rle` does.
    """
    _runs_of(rle, max_pixels)


def _runs_of(rle: Rle, max_pixels: int) -> NDArray[np.int64]:
    _check_size(rle.size, max_pixels)
    runs = _read_runs(rle.counts, rle.size[0] * rle.size[1])
    _check_runs(runs, rle.size)
    return runs


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    for side in size:
        if not isinstance(side, int) or isinstance(side, bool) or side < 1:
            raise InvalidInputError("size", "height and width must be positive integers")
    if size[0] * size[1] > max_pixels:
        raise InvalidInputError("size", f"a mask may have at most {max_pixels} pixels")


def _check_runs(runs: NDArray[np.int64], size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    if runs.ndim != 1 or (runs < 0).any() or (runs > pixels).any():
        raise InvalidInputError("counts", "a run is negative or longer than the mask")
    if int(runs.sum()) != pixels:
        raise InvalidInputError("counts", f"runs add up to {int(runs.sum())}, the mask has {pixels} pixels")


def _write_runs(runs: NDArray[np.int64]) -> str:
    rest = runs.astype(np.int64)
    rest[3:] -= runs[1:-2]
    unfinished = np.ones(rest.size, dtype=np.bool_)
    columns: list[NDArray[np.uint8]] = []
    while unfinished.any():
        group = rest & 31
        rest = rest >> 5
        more = rest != np.where(group & 16, -1, 0)
        characters = np.where(unfinished, group + 32 * more + _FIRST_CHARACTER, 0)
        columns.append(characters.astype(np.uint8))
        unfinished &= more
    written = np.stack(columns, axis=1).ravel()
    return str(written[written != 0].tobytes(), "ascii")


def _read_runs(counts: str, pixels: int) -> NDArray[np.int64]:
    # An encoder writes at most 1.125 characters a pixel: see the bound in tests/unit/test_rle.py.
    if not 0 < len(counts) <= 2 * pixels + 16:
        raise InvalidInputError("counts", f"{len(counts)} characters cannot encode {pixels} pixels")
    try:
        groups = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    except UnicodeEncodeError as error:
        raise InvalidInputError("counts", "holds a character outside the RLE alphabet") from error
    if groups.min() < 0 or groups.max() > 63:
        raise InvalidInputError("counts", "holds a character outside the RLE alphabet")
    ends = np.flatnonzero(groups < 32)
    if not ends.size or ends[-1] != groups.size - 1:
        raise InvalidInputError("counts", "ends in the middle of a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise InvalidInputError("counts", "holds a number of more than 32 bits")
    shifts = 5 * (np.arange(groups.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 31) << shifts, starts)
    runs -= np.where(groups[ends] & 16, np.int64(1) << (5 * lengths), 0)
    # Undo the differences: each chain of every second run is a cumulative sum (the first run stands alone).
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
