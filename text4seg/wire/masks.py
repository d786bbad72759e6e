"""Masks, grids and label grids."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from text4seg.labels import LabelGrid, check_shape
from text4seg.masks import Rle, check_rle, decode_rle, encode_rle, mask_of_polygons, polygons_of
from text4seg.segmentation import MaskFormat, Region
from text4seg.v1 import mask_pb2
from text4seg.wire.values import size_from_proto, size_to_proto

EncodePng: TypeAlias = Callable[[NDArray[np.bool_]], bytes]
"""Writes bool [height, width] as a 1-bit PNG file, true as white. The core has no image library."""

DecodePng: TypeAlias = Callable[[bytes], NDArray[np.bool_]]
"""Reads a PNG file as bool [height, width]; raises ValueError when it cannot."""


def mask_to_proto(
    region: Region, mask_format: MaskFormat, encode_png: EncodePng | None = None
) -> mask_pb2.Mask | None:
    """Write a region's mask in one of the public formats.

    Args:
        region: with a grid_mask for GRID, with a mask for the others but NONE.
        mask_format: NONE gives None.
        encode_png: needed for PNG only.

    Raises:
        TypeError: what the format needs was not passed.
    """
    if mask_format is MaskFormat.NONE:
        return None
    if mask_format is MaskFormat.GRID:
        if region.grid_mask is None:
            raise TypeError("format GRID needs grid_mask")
        return mask_pb2.Mask(grid=grid_to_proto(region.grid_mask))
    if mask_format is MaskFormat.COCO_RLE and (rle := region.rle) is not None:
        return mask_pb2.Mask(rle=mask_pb2.Rle(size=size_to_proto(rle.size), counts=rle.counts))
    mask = region.mask
    if mask is None:
        raise TypeError(f"format {mask_format.name} needs mask")
    if mask_format is MaskFormat.PNG:
        if encode_png is None:
            raise TypeError("format PNG needs encode_png")
        return mask_pb2.Mask(png=encode_png(mask))
    return mask_pb2.Mask(polygon=polygon_to_proto(mask))


def region_with_mask(
    region: Region,
    message: mask_pb2.Mask,
    size: tuple[int, int] | None,
    decode_png: DecodePng | None = None,
) -> Region:
    """Return the region with the mask that a message holds: in `mask` or, for format GRID, in `grid_mask`.

    Run lengths are checked, and decoded when somebody reads the mask.

    Args:
        region: everything else about it.
        message: the mask; one without a form leaves the region as it is.
        size: (height, width) that a full-size mask must have; None: any.
        decode_png: needed for PNG only.

    Raises:
        ValueError: the mask has another size, or cannot be read.
        InvalidInputError: the run lengths or outlines cannot be read.
        TypeError: the mask is a PNG and decode_png was not passed.
    """
    form = message.WhichOneof("form")
    if form is None:
        return region
    if form == "grid":
        return replace(region, grid_mask=grid_from_proto(message.grid) >= 0.5)
    if form == "rle":
        rle = Rle(size_from_proto(message.rle.size), message.rle.counts)
        check_rle(rle)
        _check_extent(rle.size, size)
        return region.with_rle(rle)
    if form == "polygon":
        mask = polygon_from_proto(message.polygon)
    elif decode_png is None:
        raise TypeError("a PNG mask needs decode_png")
    else:
        mask = decode_png(message.png)
    _check_extent((mask.shape[0], mask.shape[1]), size)
    return replace(region, mask=mask)


def _check_extent(extent: tuple[int, int], size: tuple[int, int] | None) -> None:
    if size is not None and extent != size:
        raise ValueError(f"a mask is {extent[0]} x {extent[1]}, the image {size[0]} x {size[1]}")


def rle_to_proto(mask: NDArray[np.bool_]) -> mask_pb2.Rle:
    """Write bool [height, width] in COCO run-length encoding."""
    rle = encode_rle(mask)
    return mask_pb2.Rle(size=size_to_proto(rle.size), counts=rle.counts)


def rle_from_proto(message: mask_pb2.Rle) -> NDArray[np.bool_]:
    """Return bool [height, width].

    Raises:
        InvalidInputError: size or counts cannot be read.
    """
    return decode_rle(Rle(size_from_proto(message.size), message.counts))


def polygon_to_proto(mask: NDArray[np.bool_]) -> mask_pb2.Polygon:
    """Write bool [height, width] as its outlines along pixel edges."""
    height, width = mask.shape
    rings = [
        mask_pb2.Ring(points=[mask_pb2.Point(x=x, y=y) for x, y in ring.tolist()])
        for ring in polygons_of(mask)
    ]
    return mask_pb2.Polygon(size=size_to_proto((height, width)), rings=rings)


def polygon_from_proto(message: mask_pb2.Polygon) -> NDArray[np.bool_]:
    """Return bool [height, width].

    Raises:
        InvalidInputError: size or outlines cannot be read.
    """
    rings = [[(point.x, point.y) for point in ring.points] for ring in message.rings]
    return mask_of_polygons(rings, size_from_proto(message.size))


def grid_to_proto(values: NDArray[np.bool_] | NDArray[np.floating[Any]]) -> mask_pb2.GridMask:
    """Write bool or 0 to 1 floats [rows, columns], in steps of 1/255."""
    rows, columns = values.shape
    cells = np.rint(np.clip(values.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    return mask_pb2.GridMask(rows=rows, columns=columns, cells=cells.tobytes())


def grid_from_proto(message: mask_pb2.GridMask) -> NDArray[np.float32]:
    """Return float32 [rows, columns], 0 to 1.

    Raises:
        ValueError: the extent is not allowed, or the number of cells does not fit it.
    """
    rows, columns = check_shape((message.rows, message.columns))
    if len(message.cells) != rows * columns:
        raise ValueError(f"a grid of {rows} x {columns} cells holds {len(message.cells)}")
    cells = np.frombuffer(message.cells, dtype=np.uint8).reshape(rows, columns)
    return cells.astype(np.float32) / np.float32(255)


def label_grid_to_proto(grid: LabelGrid) -> mask_pb2.LabelGrid:
    """Write a decoded descriptor."""
    rows, columns = grid.shape
    return mask_pb2.LabelGrid(
        rows=rows, columns=columns, labels=grid.labels, cells=grid.cells.ravel().tolist()
    )


def label_grid_from_proto(message: mask_pb2.LabelGrid) -> LabelGrid:
    """Return a decoded descriptor.

    Raises:
        ValueError: extent, label table and cells do not fit each other.
        LabelInvalidError: a label is none that a descriptor can hold.
    """
    rows, columns = check_shape((message.rows, message.columns))
    if len(message.cells) != rows * columns:
        raise ValueError(f"a grid of {rows} x {columns} cells holds {len(message.cells)}")
    cells: Any = np.array(message.cells, dtype=np.int64).reshape(rows, columns)  # LabelGrid checks the range
    return LabelGrid(tuple(message.labels), cells)
