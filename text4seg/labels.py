"""Labels that can be written in a descriptor, and the grid of labels that a descriptor describes."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from text4seg.errors import LabelInvalidError

OTHERS = "others"
"""The background label, first in every grid's label table."""

SEG_OPEN = "<seg>"
SEG_CLOSE = "</seg>"

MAX_LABEL_LENGTH = 256
"""Characters in a label, at most."""

MAX_RAW_LENGTH = 4 * MAX_LABEL_LENGTH
"""Characters that are looked at: Unicode normalization is quadratic on hostile text."""

MAX_CELLS = 32_767
"""Patches in a grid, at most: an int16 can then index a table with one label per patch and ``others``."""

_COUNT_LIKE = re.compile(r"\*\s*[+-]?\d|(?:^|\s)\*|\*$")
_JOINERS = "\u200c\u200d"  # needed to write Persian, Indic scripts and some emoji


def normalize_label(text: str) -> str:
    """Return the spelling under which labels are compared: lower case, NFC, single spaces, stripped."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).split())


def label_problem(text: str) -> str | None:
    """Say why a text cannot be a label, or ``None`` when it can.

    Args:
        text: the candidate, in any spelling (it is judged after :func:`normalize_label`).
    """
    stripped = text.strip()
    if len(stripped) > MAX_RAW_LENGTH:
        return f"is longer than {MAX_LABEL_LENGTH} characters"
    for character in stripped:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp", "Cs") or (category == "Cf" and character not in _JOINERS):
            return f"contains the control character U+{ord(character):04X}"
    label = normalize_label(stripped)
    if not label:
        return "is empty"
    if len(label) > MAX_LABEL_LENGTH:
        return f"is longer than {MAX_LABEL_LENGTH} characters"
    if "|" in label:
        return "contains '|', which separates runs"
    if SEG_OPEN in label or SEG_CLOSE in label:
        return "contains a '<seg>' or '</seg>' tag"
    if _COUNT_LIKE.search(label):
        return "contains something that reads as a run length, such as ' *3'"
    if label == OTHERS:
        return f"is {OTHERS!r}, the name of the background"
    return None


def check_label(label: str, field: str = "label") -> str:
    """Return the canonical spelling of a label: lower case, NFC, single spaces, stripped.

    Args:
        label: what the caller wrote.
        field: path of the field it came from, for the error.

    Raises:
        LabelInvalidError: when it is empty, longer than ``MAX_LABEL_LENGTH``, equal to ``others``, or holds
            ``|``, a control character or newline, a seg tag, or something that reads as a run length.
    """
    problem = label_problem(label)
    if problem is not None:
        raise LabelInvalidError(field, problem)
    return normalize_label(label)


def check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return ``(rows, cols)`` as plain integers.

    Raises:
        ValueError: when a side is below 1 or the grid has more than ``MAX_CELLS`` patches.
    """
    rows, cols = int(shape[0]), int(shape[1])
    if rows < 1 or cols < 1 or rows * cols > MAX_CELLS:
        raise ValueError(f"grid shape {rows}x{cols} is not between 1x1 and {MAX_CELLS} patches")
    return rows, cols


@dataclass(frozen=True, slots=True, eq=False)
class LabelGrid:
    """One label per image patch.

    Two grids are equal when they have the same shape and the same label in every patch, whatever the order
    of their tables.

    Attributes:
        labels: label table; ``labels[0]`` is always ``others``; all distinct and in canonical spelling.
        cells: int16 [rows, cols], read-only, index into ``labels``; row 0 is the top of the image.

    Raises:
        LabelInvalidError: when a label could not be written in a descriptor.
        ValueError: when the table or the cells break one of the rules above.
    """

    labels: tuple[str, ...]
    cells: NDArray[np.int16]

    def __post_init__(self) -> None:
        """Check the invariants and take a private, read-only copy of the cells."""
        if not self.labels or self.labels[0] != OTHERS:
            raise ValueError(f"the first label must be {OTHERS!r}")
        for position, label in enumerate(self.labels[1:], start=1):
            if check_label(label, f"labels[{position}]") != label:
                raise ValueError(f"label {label!r} is not in canonical spelling: use check_label")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) > MAX_CELLS + 1:
            raise ValueError("labels are repeated, or too many")
        given = np.asarray(self.cells)
        if given.ndim != 2 or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"cells must be integers [rows, cols], got {given.dtype} {given.shape}")
        check_shape((given.shape[0], given.shape[1]))
        if int(given.min()) < 0 or int(given.max()) >= len(self.labels):
            raise ValueError("a cell points outside the label table")
        cells = given.astype(np.int16)
        cells.setflags(write=False)
        object.__setattr__(self, "cells", cells)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return (int(self.cells.shape[0]), int(self.cells.shape[1]))

    @property
    def present(self) -> tuple[str, ...]:
        """The labels that at least one patch carries, without ``others``, in table order."""
        used = np.unique(self.cells)
        return tuple(self.labels[int(index)] for index in used if index != 0)

    def mask(self, label: str) -> NDArray[np.bool_]:
        """Return bool [rows, cols]: the patches that carry a label.

        Raises:
            KeyError: when the label is not in the grid's table.
        """
        if label not in self.labels:
            raise KeyError(label)
        found: NDArray[np.bool_] = self.cells == self.labels.index(label)
        return found

    @classmethod
    def from_mask(cls, mask_grid: NDArray[np.bool_], label: str) -> LabelGrid:
        """Build the grid of one label.

        Args:
            mask_grid: bool [rows, cols], true where the label is.
            label: any spelling that :func:`check_label` accepts.

        Raises:
            LabelInvalidError: when the label cannot be written.
        """
        return cls((OTHERS, check_label(label)), np.asarray(mask_grid, dtype=np.bool_).astype(np.int16))

    def _key(self) -> tuple[tuple[int, int], tuple[str, ...], bytes]:
        used, first, inverse = np.unique(self.cells, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(used), dtype=np.int16)
        rank[order] = np.arange(len(used), dtype=np.int16)
        names = tuple(self.labels[int(used[position])] for position in order)
        return self.shape, names, rank[inverse.ravel()].tobytes()

    def __repr__(self) -> str:
        return f"LabelGrid(labels={self.labels!r}, cells=int16{list(self.shape)})"

    def __eq__(self, other: object) -> bool:
        """Compare patch by patch, by label name."""
        return self._key() == other._key() if isinstance(other, LabelGrid) else NotImplemented

    def __hash__(self) -> int:
        """Hash consistently with ``==``."""
        return hash(self._key())
