"""Label Studio's run lengths of brush strokes.

The bits, most significant first (thi.ng's ``rle-pack``): the number of values in 32, the bits of a value
less one in 5, four lengths of counts less one in 4 each. Then, until all values are there: one bit, two bits
that choose a length, and a count less one of that length; after a 1 one value that stands ``count`` times,
after a 0 ``count`` values. The values are the channels of an RGBA picture, row by row; alpha says where the
brush was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.datasets.layout import DatasetError

_CHANNELS = 4


def decode_brush(packed: Sequence[int], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Decode a brush mask, bool [height, width].

    Args:
        packed: Bytes as numbers.
        size: (height, width) of the image.
        where: What it belongs to, for the error.

    Raises:
        DatasetError: the bytes are no brush mask of that size.
    """
    try:
        data = np.array(packed)
        if data.ndim != 1 or not np.issubdtype(data.dtype, np.integer) or ((data < 0) | (data > 255)).any():
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: the brush mask is not a list of bytes") from error
    bits = _Bits(np.unpackbits(data.astype(np.uint8)), where)
    count, width = bits.number(32), bits.number(5) + 1
    lengths = [bits.number(4) + 1 for _ in range(4)]
    if count != size[0] * size[1] * _CHANNELS:
        raise DatasetError(
            f"{where}: the brush mask has {count} values, not those of {size[1]}x{size[0]} pixels"
        )
    values = np.zeros(count, dtype=np.uint32)
    at = 0
    while at < count:
        repeated = bits.number(1)
        run = bits.number(lengths[bits.number(2)]) + 1
        if at + run > count:
            raise DatasetError(f"{where}: the brush mask has too many values")
        values[at : at + run] = bits.number(width) if repeated else bits.numbers(run, width)
        at += run
    alpha: NDArray[np.bool_] = values.reshape(*size, _CHANNELS)[..., -1] != 0
    return alpha


class _Bits:
    def __init__(self, bits: NDArray[np.uint8], where: str) -> None:
        self._bits = bits
        self._where = where
        self._at = 0

    def numbers(self, count: int, width: int) -> NDArray[np.uint32]:
        end = self._at + count * width
        if end > len(self._bits):
            raise DatasetError(f"{self._where}: the brush mask ends too early")
        table = self._bits[self._at : end].reshape(count, width)
        self._at = end
        weights = np.left_shift(np.uint32(1), np.arange(width - 1, -1, -1, dtype=np.uint32))
        numbers: NDArray[np.uint32] = (table.astype(np.uint32) * weights).sum(axis=1, dtype=np.uint32)
        return numbers

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])
