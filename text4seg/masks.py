"""Geometry of masks: grid <-> pixels, boxes, areas. RLE, polygons and instances are re-exported from here.

A mask is bool [height, width]; a grid is the same picture in [rows, cols] cells, each covering
height / rows x width / cols pixels (not always a whole number). Pixel (row, column) is the square
[column, column + 1] x [row, row + 1] of the XY image frame.
"""

from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from text4seg.components import MAX_INSTANCES, split_instances
from text4seg.polygons import MAX_COORDINATE, mask_of_polygons, polygons_of
from text4seg.rle import MAX_MASK_PIXELS, Rle, check_rle, decode_rle, encode_rle

__all__ = [
    "MAX_COORDINATE",
    "MAX_INSTANCES",
    "MAX_MASK_PIXELS",
    "Box",
    "Method",
    "Rle",
    "box_of",
    "cell_centres",
    "check_rle",
    "coverage",
    "decode_rle",
    "encode_rle",
    "mask_area",
    "mask_of_polygons",
    "polygons_of",
    "resample",
    "split_instances",
    "to_grid",
    "upsample",
]

Method = Literal["nearest", "bilinear"]
_Value = TypeVar("_Value", bound=np.generic)


class Box(NamedTuple):
    """A half-open box in pixels, XYXY: columns x0 <= x < x1, rows y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns inside the box."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows inside the box."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels inside the box."""
        return self.width * self.height


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """Return the tight box round a mask [height, width] (mask2box), or None if the mask is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    return Box(int(columns[0]), y0, int(columns[-1]) + 1, y1)


def mask_area(mask: NDArray[np.bool_]) -> int:
    """Return the number of foreground pixels."""
    return int(np.count_nonzero(mask))


def upsample(values: NDArray[_Value], size: tuple[int, int], method: Method = "nearest") -> NDArray[_Value]:
    """Resample a grid of labels, booleans or probabilities to an image.

    Both methods align the outer edges of grid and image. ``nearest`` takes the cell under each pixel's
    centre, floor((i + 0.5) * rows / height), and suits labels and masks; a centre on the edge between two
    cells takes the later one. ``bilinear`` interpolates between cell centres, with the border cells continued
    outwards, as ``align_corners=False`` does elsewhere; it suits probabilities. Neither averages: to shrink a
    mask use :func:`to_grid`.

    Args:
        values: [rows, cols]; floating point for bilinear.
        size: (height, width) in pixels.
        method: ``nearest`` or ``bilinear``.

    Returns:
        [height, width] of the same dtype.

    Raises:
        ValueError: a size that is not positive, an unknown method, or bilinear on other than floats.
    """
    rows, cols = values.shape
    return resample(values, cell_centres(rows, size[0]), cell_centres(cols, size[1]), method)


def cell_centres(source: int, target: int) -> NDArray[np.float64]:
    """Centres of `target` equal cells as positions on an axis of `source` cells: (i + 0.5) * source / target.

    One division of whole numbers, so that rounding down gives the true source cell.

    Raises:
        ValueError: a size that is not positive.
    """
    if source < 1 or target < 1:
        raise ValueError("sizes must be positive")
    return (2 * np.arange(target, dtype=np.int64) + 1) * source / (2 * target)


def resample(
    values: NDArray[_Value], rows: NDArray[np.float64], cols: NDArray[np.float64], method: Method
) -> NDArray[_Value]:
    """Read an array at the crossings of the given positions.

    Args:
        values: two-dimensional; floating point for bilinear.
        rows: [n] positions down the first axis, cell i being [i, i + 1]; positions outside take the border.
        cols: [m] positions along the second axis.
        method: ``nearest`` (the cell that holds the position) or ``bilinear`` (between cell centres).

    Returns:
        [n, m] of the same dtype.

    Raises:
        ValueError: an unknown method, or bilinear on other than floats.
    """
    height, width = values.shape
    if method == "nearest":
        return values[_cells(rows, height)][:, _cells(cols, width)]
    if method != "bilinear":
        raise ValueError(f"unknown method {method!r}")
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError("bilinear interpolation needs floating-point values")
    above, below, down = _linear_weights(rows, height)
    before, after, right = _linear_weights(cols, width)
    grid: NDArray[Any] = values
    tall = grid[above] + (grid[below] - grid[above]) * down[:, None].astype(grid.dtype)
    start = tall[:, before]
    image: NDArray[_Value] = start + (tall[:, after] - start) * right.astype(grid.dtype)
    return image


def _cells(positions: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.clip(np.floor(positions).astype(np.int64), 0, count - 1)


def _linear_weights(
    positions: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Lower neighbour, upper neighbour and weight of the upper one for each position."""
    centre = np.clip(positions - 0.5, 0, count - 1)
    lower = np.floor(centre).astype(np.int64)
    upper: NDArray[np.int64] = np.minimum(lower + 1, count - 1)
    weight: NDArray[np.float64] = np.subtract(centre, lower)
    return lower, upper, weight


def coverage(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each grid cell that is foreground, with pixels cut by a cell's edge counted in parts.

    Args:
        mask: [height, width]; non-zero is foreground. Any size: cells may be smaller than pixels.
        shape: (rows, cols) of the grid.

    Returns:
        [rows, cols], 0 to 1. Sums are done in whole numbers, so 1/2 is exactly 0.5.

    Raises:
        ValueError: a size that is not positive.
    """
    height, width = mask.shape
    rows, cols = shape
    row_overlap, col_overlap = _overlaps(height, rows), _overlaps(width, cols)
    covered = np.empty((rows, cols), dtype=np.float64)
    for row in range(rows):
        # One band of pixel rows at a time bounds the memory of the conversion to float32, whose products
        # here are whole numbers of at most `height` and so exact.
        begin, end = row * height // rows, -(-(row + 1) * height // rows)
        band = mask[begin:end].astype(np.bool_).astype(np.float32)
        covered[row] = col_overlap @ (row_overlap[row, begin:end] @ band).astype(np.float64)
    return covered / (height * width)


def _overlaps(pixels: int, cells: int) -> NDArray[np.float32]:
    """Overlap [cells, pixels] of each cell with each pixel, in units of 1 / cells of a pixel."""
    if pixels < 1 or cells < 1:
        raise ValueError("sizes must be positive")
    pixel_begin = np.arange(pixels, dtype=np.int64) * cells
    cell_begin = np.arange(cells, dtype=np.int64)[:, None] * pixels
    end = np.minimum(pixel_begin + cells, cell_begin + pixels)
    overlap: NDArray[np.float32] = np.maximum(end - np.maximum(pixel_begin, cell_begin), 0).astype(np.float32)
    return overlap


def to_grid(
    mask: NDArray[np.bool_],
    shape: tuple[int, int],
    rule: Literal["area", "nearest"] = "area",
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """Shrink a mask to a grid of cells.

    ``area`` marks a cell when at least `threshold` of it is foreground (:func:`coverage`); ``nearest`` takes
    the pixel under the cell's centre, as the published models' ground truth was made. Either may lose a
    thin object; a lower threshold keeps more of it.

    Args:
        mask: [height, width]; non-zero is foreground.
        shape: (rows, cols) of the grid.
        rule: ``area`` or ``nearest``.
        threshold: for ``area``, above 0 and at most 1.

    Returns:
        bool [rows, cols].

    Raises:
        ValueError: a size that is not positive, an unknown rule, or a threshold out of range.
    """
    if rule == "nearest":
        return upsample(np.asarray(mask, dtype=np.bool_), shape)
    if rule != "area":
        raise ValueError(f"unknown rule {rule!r}")
    if not 0 < threshold <= 1:
        raise ValueError("threshold must be above 0 and at most 1")
    return coverage(mask, shape) >= threshold
