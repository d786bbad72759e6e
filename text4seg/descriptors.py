"""Label grid to descriptor text and back: the only codec in the project.

The text is the content between ``<seg>`` and ``</seg>``, in the form that the published models were trained
to write. Row-wise run lengths (R-RLE, Lan et al., "Text4Seg: Reimagining image segmentation as text
generation", 2024)::

    others *16\n others *5| white horse *4| others *7\n ... others *16\n

A run is ``{label} *{n}`` and always carries its count; runs are joined by ``"| "``, rows by ``"\\n "``; the
text ends with ``"\\n"``. Neighbouring patches of a row with one label are always one run, so that each grid
has exactly one text.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby

from text4seg.labels import (
    MAX_CELLS,
    MAX_LABEL_LENGTH,
    OTHERS,
    SEG_CLOSE,
    SEG_OPEN,
    LabelGrid,
    check_label,
)

__all__ = [
    "MAX_CELLS",
    "MAX_LABEL_LENGTH",
    "OTHERS",
    "SEG_CLOSE",
    "SEG_OPEN",
    "Codec",
    "LabelGrid",
    "check_label",
    "encode",
]


class Codec(StrEnum):
    """How a grid is written."""

    RRLE = "r-rle"
    """Run lengths within each row: the trained form."""

    IRLE = "i-rle"
    """Run lengths over the whole image in row-major order, one line: an ablation."""

    FULL = "full"
    """One label per patch, no counts, rows as in R-RLE: an ablation."""


def encode(grid: LabelGrid, codec: Codec = Codec.RRLE) -> str:
    """Write a grid as the text between ``<seg>`` and ``</seg>``, ending in a newline."""
    lines = grid.cells.reshape(1, -1) if codec is Codec.IRLE else grid.cells
    return "\n ".join(_encode_line(line.tolist(), grid.labels, codec) for line in lines) + "\n"


def _encode_line(line: list[int], labels: tuple[str, ...], codec: Codec) -> str:
    if codec is Codec.FULL:
        return "| ".join(labels[index] for index in line)
    return "| ".join(f"{labels[index]} *{len(list(run))}" for index, run in groupby(line))
