"""Masks as polygons traced on pixel edges, and back.

Frame: XY image coordinates with the origin at the outer corner of the top-left pixel, y downwards. Pixel
(row, column) is the square [column, column + 1] x [row, row + 1], so a traced vertex is a whole number
between 0 and the image's width or height, and ``mask_of_polygons(polygons_of(mask), mask.shape)`` is the
mask, exactly. (pycocotools rasterises polygons by another rule, which loses such edges.)
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from text4seg.errors import InvalidInputError
from text4seg.rle import MAX_MASK_PIXELS

MAX_COORDINATE = float(1 << 24)
"""Largest magnitude of a vertex coordinate that is accepted, in pixels."""

_CROSSINGS_AT_ONCE = 1 << 20

# A lattice vertex is described by its four pixels: 1 north-west, 2 north-east, 4 south-west, 8 south-east.
# A boundary turns where one or three of them, or two diagonal ones, are foreground. Each turn joins a
# horizontal and a vertical boundary segment; which sides they lie on, and whether the horizontal one
# leaves (foreground on the right-hand side), follow from the code. A diagonal vertex holds two turns.
_TURNS = np.isin(np.arange(16), (1, 2, 4, 8, 6, 9, 7, 11, 13, 14))
_EAST = np.isin(np.arange(16), (2, 8, 7, 13))
_SOUTH = np.isin(np.arange(16), (4, 8, 7, 11))
_LEAVES_HORIZONTALLY = np.isin(np.arange(16), (1, 8, 11, 13))


def polygons_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], ...]:
    """Trace every boundary of a mask along pixel edges.

    Args:
        mask: [height, width]; non-zero is foreground.

    Returns:
        Rings, each int32 [n, 2], n >= 4, XY vertices where the boundary turns, not repeating the first at
        the end, in the frame of this module. Outer boundaries run clockwise as seen on the screen (positive
        shoelace area), holes the other way. Every ring is simple: where pixels meet only at a corner, the
        rings touch there and none passes twice. Filled together by the even-odd rule they give the mask.
    """
    columns, rows, following, twin = _turns(np.asarray(mask, dtype=np.bool_))
    vertices = np.stack((columns, rows), axis=1).astype(np.int32)
    return tuple(vertices[ring] for ring in _simple_rings(following.tolist(), twin.tolist()))


def mask_of_polygons(
    polygons: Sequence[ArrayLike], shape: tuple[int, int], *, max_pixels: int = MAX_MASK_PIXELS
) -> NDArray[np.bool_]:
    """Fill polygons by the even-odd rule: a pixel is foreground when its centre is inside.

    A centre that lies on an edge belongs to the polygon on its right or below it, so polygons that share an
    edge neither overlap nor leave a gap. Scanline crossings are toggled and accumulated along each row.

    Args:
        polygons: rings, each [n, 2] XY vertices, n >= 3, integer or float, in the frame of this module;
            closed implicitly; parts outside the image are cut off.
        shape: (height, width) of the image.
        max_pixels: largest allowed height x width.

    Returns:
        bool [height, width].

    Raises:
        InvalidInputError: field ``size`` (not positive or too large) or ``polygons`` (not [n, 2] numbers,
            fewer than three vertices, or a coordinate that is not finite or beyond MAX_COORDINATE).
    """
    height, width = shape
    if height < 1 or width < 1 or height * width > max_pixels:
        raise InvalidInputError("size", f"a mask must have between 1 and {max_pixels} pixels")
    rings = [_vertices(polygon) for polygon in polygons]
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    if not rings:
        return toggles[:, :width].astype(np.bool_)
    begin = np.concatenate(rings)
    end = np.roll(begin, -1, axis=0)
    ring_end = np.cumsum([len(ring) for ring in rings])
    end[ring_end - 1] = begin[np.concatenate(([0], ring_end[:-1]))]
    upwards = begin[:, 1] > end[:, 1]
    top, bottom = np.where(upwards[:, None], end, begin), np.where(upwards[:, None], begin, end)
    # Row r has its centre at r + 0.5: an edge crosses the rows in [first, last).
    first = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64)
    crossed = np.flatnonzero(last > first)
    for edges in _batches(crossed, (last - first)[crossed]):
        heights = (last - first)[edges]
        edge = np.repeat(edges, heights)
        row = np.arange(edge.size) + np.repeat(first[edges] - (np.cumsum(heights) - heights), heights)
        share = (row + 0.5 - top[edge, 1]) / (bottom[edge, 1] - top[edge, 1])
        crossing = top[edge, 0] + share * (bottom[edge, 0] - top[edge, 0])
        column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
        # Wraps at 256, which keeps the parity.
        np.add.at(toggles.reshape(-1), row * (width + 1) + column, np.uint8(1))
    return np.bitwise_xor.accumulate(toggles[:, :width] & 1, axis=1).astype(np.bool_)


def _vertices(polygon: ArrayLike) -> NDArray[np.float64]:
    try:
        ring = np.asarray(polygon, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError("polygons", "a polygon must be a list of [x, y] numbers") from error
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise InvalidInputError("polygons", "a polygon needs three or more [x, y] vertices")
    if not (np.abs(ring) <= MAX_COORDINATE).all():
        raise InvalidInputError("polygons", "a coordinate is not finite or far outside any image")
    return ring


def _batches(edges: NDArray[np.int64], crossings: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut the edges so that each batch makes about _CROSSINGS_AT_ONCE crossings, however many there are."""
    batch = np.cumsum(crossings) // _CROSSINGS_AT_ONCE
    yield from np.split(edges, np.flatnonzero(np.diff(batch)) + 1)


def _turns(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Column, row, next turn along the boundary, and twin (the other turn at a diagonal vertex, or -1)."""
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), dtype=np.uint8)
    padded[1:-1, 1:-1] = mask
    codes = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    position = np.flatnonzero(_TURNS[codes])
    code = codes.ravel()[position].astype(np.int64)
    diagonal = (code == 6) | (code == 9)
    first = np.arange(code.size) + np.cumsum(diagonal) - diagonal
    position, code = np.repeat(position, 1 + diagonal), np.repeat(code, 1 + diagonal)
    # Each foreground pixel of a diagonal vertex is walked round on its own, the western one first.
    west = first[diagonal]
    twin = np.full(code.size, -1)
    twin[west], twin[west + 1] = west + 1, west
    code[west], code[west + 1] = np.where(code[west] == 9, 1, 4), np.where(code[west] == 9, 8, 2)

    rows, columns = np.divmod(position, width + 1)
    east, south = _EAST[code], _SOUTH[code]
    # Turns are in row order, western first: the other end of a horizontal segment is the neighbour in it.
    # The same holds of vertical segments in column order, northern first.
    by_column = np.lexsort((south, rows, columns))
    rank = np.empty_like(by_column)
    rank[by_column] = np.arange(by_column.size)
    horizontal = np.arange(code.size) + np.where(east, 1, -1)
    vertical_rank = rank + np.where(south, 1, -1)
    leaves_horizontally = _LEAVES_HORIZONTALLY[code]
    following = horizontal
    following[~leaves_horizontally] = by_column[vertical_rank[~leaves_horizontally]]
    return columns, rows, following, twin


def _simple_rings(following: list[int], twin: list[int]) -> Iterator[list[int]]:
    """Walk the boundary from turn to turn, cutting off a ring whenever a vertex is met again."""
    seen = bytearray(len(following))
    for start in range(len(following)):
        if seen[start]:
            continue
        path: list[int] = []
        place: dict[int, int] = {}
        turn = start
        while not seen[turn]:
            seen[turn] = True
            other = twin[turn]
            if other >= 0:
                if other in place:
                    begin = place[other]
                    yield path[begin:]
                    for dropped in path[begin:]:
                        place.pop(dropped, None)
                    del path[begin:]
                place[turn] = len(path)
            path.append(turn)
            turn = following[turn]
        yield path
