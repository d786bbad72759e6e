"""Connected components of a mask: a heuristic split of a region into instances."""

import numpy as np
from numpy.typing import NDArray

MAX_INSTANCES = 256
"""Most instances that one mask is split into, unless the caller says otherwise."""


def split_instances(
    mask: NDArray[np.bool_], min_area: int = 1, limit: int = MAX_INSTANCES
) -> tuple[NDArray[np.bool_], ...]:
    """Split a mask into its 8-connected components, largest first.

    Touching objects stay together and an occluded object falls apart: this is a heuristic. Components of
    equal area come in raster order of their first pixel.

    Runs of each row are the nodes, runs that touch in neighbouring rows the edges; components are found by
    hooking every root to its smallest neighbour and compressing paths until no edge joins two roots
    (Shiloach and Vishkin, 1982), in a logarithmic number of vectorised rounds.

    Args:
        mask: [height, width]; non-zero is foreground.
        min_area: components of fewer pixels are left out; at least 1.
        limit: only this many of the largest are returned: a noisy mask has a component every few pixels,
            and each answer is a whole mask.

    Returns:
        Masks, bool [height, width], disjoint; their union is the mask, less what min_area and limit leave
        out. Empty for an empty mask.

    Raises:
        ValueError: min_area or limit below 1, or the mask is not two-dimensional.
    """
    if min_area < 1 or limit < 1:
        raise ValueError("min_area and limit must be at least 1")
    starts, ends = _row_runs(mask)
    if not starts.size:
        return ()
    component = _roots(starts.size, *_touching_runs(starts, ends, mask.shape[1] + 1))
    lengths = ends - starts
    areas = np.zeros(starts.size, dtype=np.int64)
    np.add.at(areas, component, lengths)
    chosen = np.argsort(-areas, kind="stable")[:limit]
    by_component = np.argsort(component, kind="stable")
    first = np.searchsorted(component, chosen, side="left", sorter=by_component)
    last = np.searchsorted(component, chosen, side="right", sorter=by_component)
    return tuple(
        _paint(starts[by_component[begin:end]], lengths[by_component[begin:end]], mask.shape)
        for root, begin, end in zip(chosen, first, last, strict=True)
        if areas[root] >= min_area
    )


def _row_runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Begin and end of every foreground run as positions in rows of width + 1 (the last column is empty)."""
    height, width = mask.shape
    padded = np.zeros((height, width + 1), dtype=np.bool_)
    padded[:, :width] = mask
    pixels = np.concatenate(([False], padded.ravel()))
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    return changes[::2], changes[1::2]


def _touching_runs(
    starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (upper, lower) of runs in neighbouring rows that share an edge or a corner."""
    # Runs touch when neither begins more than a column past the other's end, which reads "<=" on half-open
    # ends. The empty last column keeps the end of a row apart from the start of the next.
    begin = np.searchsorted(ends, starts + stride, side="left")
    end = np.searchsorted(starts, ends + stride, side="right")
    degree = np.maximum(end - begin, 0)
    upper = np.repeat(np.arange(starts.size), degree)
    offset = np.arange(upper.size) - np.repeat(np.cumsum(degree) - degree, degree)
    return upper, np.repeat(begin, degree) + offset


def _roots(nodes: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest node of each node's component."""
    parent = np.arange(nodes)
    while left.size:
        np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(grandparent := parent[parent], parent):
            parent = grandparent
        left, right = parent[left], parent[right]
        apart = left != right
        left, right = left[apart], right[apart]
    return parent


def _paint(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    height, width = shape
    instance = np.zeros((height, width), dtype=np.bool_)
    in_image = starts - starts // (width + 1)
    skipped = np.repeat(in_image - (np.cumsum(lengths) - lengths), lengths)
    instance.ravel()[skipped + np.arange(skipped.size)] = True
    return instance
