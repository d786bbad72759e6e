"""Label grid to descriptor text and back: the only codec in the project.

The text is the content between ``<seg>`` and ``</seg>``, in the form that the published models were trained
to write. Row-wise run lengths (R-RLE, Lan et al., "Text4Seg: Reimagining image segmentation as text
generation", 2024)::

    others *16\n others *5| white horse *4| others *7\n ... others *16\n

A run is ``{label} *{n}`` and always carries its count; runs are joined by ``"| "``, rows by ``"\\n "``; the
text ends with ``"\\n"``. Neighbouring patches of a row with one label are always one run, so that each grid
has exactly one text, and strict decoding accepts exactly the texts that :func:`encode` writes.

Lenient decoding reads row by row, so that a bad row never moves another, takes any text (the plain form
with ``"|"`` and ``"\\n"`` included), and reports every repair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from text4seg.errors import DescriptorMalformedError
from text4seg.labels import (
    MAX_CELLS,
    MAX_LABEL_LENGTH,
    OTHERS,
    SEG_CLOSE,
    SEG_OPEN,
    LabelGrid,
    check_label,
    check_shape,
)
from text4seg.rows import Codec, Line, Repair, RepairKind, Run, Vocabulary, read_line

__all__ = [
    "MAX_CELLS",
    "MAX_LABEL_LENGTH",
    "OTHERS",
    "SEG_CLOSE",
    "SEG_OPEN",
    "Codec",
    "DecodeReport",
    "Decoding",
    "LabelGrid",
    "Repair",
    "RepairKind",
    "Row",
    "RowStream",
    "Run",
    "check_label",
    "decode",
    "decode_answer",
    "decode_strict",
    "encode",
]


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """How a text differed from a well-formed descriptor.

    Attributes:
        repairs: in order of grid position; empty exactly when the text is well-formed.
        unknown_labels: normalized labels that were not allowed, each once, in order of appearance.
        truncated: the text ended before the last row was complete.
    """

    repairs: tuple[Repair, ...]
    unknown_labels: tuple[str, ...]
    truncated: bool

    @property
    def lossy(self) -> tuple[Repair, ...]:
        """The repairs that may have changed the grid: what was written had no clear meaning there."""
        return tuple(repair for repair in self.repairs if repair.kind is not RepairKind.SEPARATOR)


@dataclass(frozen=True, slots=True)
class Decoding:
    """A decoded descriptor.

    Attributes:
        grid: the labels; its table is ``others`` and the allowed labels, or, in open vocabulary, what the
            text names in order of appearance.
        report: what was repaired.
        runs: the runs as written, in order; patches that no run covers were filled with ``others``.
    """

    grid: LabelGrid
    report: DecodeReport
    runs: tuple[Run, ...]


def encode(grid: LabelGrid, codec: Codec = Codec.RRLE) -> str:
    """Write a grid as the text between ``<seg>`` and ``</seg>``, ending in a newline."""
    lines = grid.cells.reshape(1, -1) if codec is Codec.IRLE else grid.cells
    return "\n ".join(_encode_line(line.tolist(), grid.labels, codec) for line in lines) + "\n"


def _encode_line(line: list[int], labels: tuple[str, ...], codec: Codec) -> str:
    if codec is Codec.FULL:
        return "| ".join(labels[index] for index in line)
    return "| ".join(f"{labels[index]} *{len(list(run))}" for index, run in groupby(line))


def decode(
    text: str,
    shape: tuple[int, int],
    labels: Sequence[str] | None = None,
    codec: Codec = Codec.RRLE,
    *,
    complete: bool = True,
) -> Decoding:
    """Read a descriptor leniently. Never fails on any text, in time linear in the text and the grid.

    Args:
        text: what is between ``<seg>`` and ``</seg>``. Reading stops at a tag inside.
        shape: rows and columns of the grid; a property of the checkpoint, never guessed from the text.
        labels: the allowed labels (``others`` is always allowed), or ``None`` for open vocabulary.
        codec: how the text is written.
        complete: the model has stopped. When false, what is still missing at the end is no repair.

    Raises:
        ValueError: when the shape is impossible.
        LabelInvalidError: when an allowed label could not be written in a descriptor.
    """
    begin = len(text) - len(text.lstrip())
    begin = begin + len(SEG_OPEN) if text.startswith(SEG_OPEN, begin) else 0
    end = _next_tag(text, begin)
    repairs = []
    if begin or end < len(text):
        repairs.append(Repair(RepairKind.SEPARATOR, 0, 0, "seg tags inside the text"))
    return _decode(text, begin, end, shape, labels, codec, complete, repairs)


def decode_answer(
    answer: str,
    shape: tuple[int, int],
    labels: Sequence[str] | None = None,
    codec: Codec = Codec.RRLE,
    *,
    complete: bool = True,
) -> Decoding:
    """Read the first ``<seg>`` block of a whole answer, as :func:`decode` does.

    Spans count characters of the answer. A missing block gives a grid of ``others``; that, a missing
    ``</seg>`` and further blocks are reported as repairs.

    Raises:
        ValueError: when the shape is impossible.
        LabelInvalidError: when an allowed label could not be written in a descriptor.
    """
    opening = answer.find(SEG_OPEN)
    if opening < 0:
        missing = (
            [Repair(RepairKind.BLOCK_MISSING, 0, 0, "the answer has no <seg> block")] if complete else []
        )
        return _decode(answer, len(answer), len(answer), shape, labels, codec, False, missing)
    begin = opening + len(SEG_OPEN)
    end = _next_tag(answer, begin)
    decoding = _decode(answer, begin, end, shape, labels, codec, complete, [])
    extra: list[Repair] = []
    rows = decoding.grid.shape[0]
    if complete and not answer.startswith(SEG_CLOSE, end):
        extra.append(Repair(RepairKind.BLOCK_UNCLOSED, rows, 0, "</seg> is missing"))
    if answer.find(SEG_OPEN, end) >= 0:
        extra.append(Repair(RepairKind.BLOCK_EXTRA, rows, 0, "more than one <seg> block"))
    report = replace(decoding.report, repairs=(*decoding.report.repairs, *extra))
    return replace(decoding, report=report)


def decode_strict(
    text: str,
    shape: tuple[int, int],
    labels: Sequence[str] | None = None,
    codec: Codec = Codec.RRLE,
) -> LabelGrid:
    """Read a descriptor that must be exactly what :func:`encode` writes.

    Raises:
        DescriptorMalformedError: with the 0-based row and column of the first place that lenient decoding
            would repair.
        ValueError: when the shape is impossible.
        LabelInvalidError: when an allowed label could not be written in a descriptor.
    """
    decoding = decode(text, shape, labels, codec)
    if decoding.report.repairs:
        first = decoding.report.repairs[0]
        raise DescriptorMalformedError(first.detail, first.row, first.column)
    return decoding.grid


def _next_tag(text: str, begin: int) -> int:
    tags = (text.find(SEG_OPEN, begin), text.find(SEG_CLOSE, begin))
    return min((at for at in tags if at >= 0), default=len(text))


def _decode(
    text: str,
    begin: int,
    end: int,
    shape: tuple[int, int],
    labels: Sequence[str] | None,
    codec: Codec,
    complete: bool,
    repairs: list[Repair],
) -> Decoding:
    rows, cols = check_shape(shape)
    vocabulary = Vocabulary(labels)
    first = _skip_blank_lines(text, begin, end)
    if first > begin and end > first:
        repairs.append(Repair(RepairKind.SEPARATOR, 0, 0, "a blank line before the first row"))
    image_wise = codec is Codec.IRLE
    width, wanted = (rows * cols, 1) if image_wise else (cols, rows)
    lines: list[Line] = []
    at, cut = first, False
    while len(lines) < wanted and not cut:
        newline = end - 1 if image_wise and text.endswith("\n", at, end) else text.find("\n", at, end)
        cut = newline < 0 or (image_wise and newline != end - 1)
        stop = end if cut else newline
        line = text[at:stop]
        if cut and not line.strip():
            break
        if "\n" in line:  # only in I-RLE, which is one line
            repairs.append(Repair(RepairKind.SEPARATOR, 0, 0, "a newline inside the text"))
            line = line.replace("\n", "|")
        columns = cols if image_wise else None
        number = len(lines)
        lines.append(
            read_line(line, at, number, width, codec, vocabulary, cut=cut, final=complete, columns=columns)
        )
        at = stop if cut else stop + 1
    for read in lines:
        repairs.extend(read.repairs)
    if complete and len(lines) < wanted:
        repairs.append(
            Repair(RepairKind.ROWS_MISSING, len(lines), 0, f"{len(lines)} of {wanted} lines are there")
        )
    elif complete and cut:
        repairs.append(Repair(RepairKind.SEPARATOR, rows - 1, cols, "no newline at the end"))
    if text[at:end].strip() and len(lines) == wanted:
        repairs.append(Repair(RepairKind.ROWS_EXTRA, rows, 0, f"more than {wanted} lines"))
    elif at < end and len(lines) == wanted:
        repairs.append(Repair(RepairKind.SEPARATOR, rows, 0, "white space behind the last row"))
    cells = [cell for read in lines for cell in read.cells]
    cells.extend([0] * (rows * cols - len(cells)))
    return Decoding(
        grid=LabelGrid(vocabulary.labels, np.array(cells, dtype=np.int16).reshape(rows, cols)),
        report=DecodeReport(
            repairs=tuple(repairs),
            unknown_labels=tuple(vocabulary.unknown),
            truncated=len(lines) < wanted or (cut and lines[-1].filled < width),
        ),
        runs=tuple(run for read in lines for run in read.runs),
    )


def _skip_blank_lines(text: str, begin: int, end: int) -> int:
    """Return where the line with the first visible character begins."""
    content = text[begin:end]
    leading = content[: len(content) - len(content.lstrip())]
    return begin + leading.rfind("\n") + 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the grid, for streaming.

    Attributes:
        index: 0-based grid row.
        labels: one label per patch, from left to right.
    """

    index: int
    labels: tuple[str, ...]


class RowStream:
    """Decode an answer while the model writes it.

    Feed the whole answer in pieces of any size: reading starts at the first ``<seg>`` and stops at the next
    tag. The rows are those of :func:`decode_answer`, each given out as soon as its line has ended; in I-RLE
    no row is certain before the end, so all come from :meth:`finish`.

    Raises:
        ValueError: when the shape is impossible.
        LabelInvalidError: when an allowed label could not be written in a descriptor.
    """

    def __init__(
        self, shape: tuple[int, int], labels: Sequence[str] | None = None, codec: Codec = Codec.RRLE
    ) -> None:
        self._shape = check_shape(shape)
        self._labels = labels
        self._codec = codec
        self._vocabulary = Vocabulary(labels)
        self._parts: list[str] = []  # of the line being written; joined once, so that feeding stays linear
        self._inside = False
        self._closed = False
        self._given = 0

    def feed(self, chunk: str) -> list[Row]:
        """Take the next piece of the answer and return the rows it completes, usually none."""
        if self._closed or self._given == self._shape[0]:
            return []
        if not self._inside:
            chunk = "".join(self._parts) + chunk
            opening = chunk.find(SEG_OPEN)
            if opening < 0:
                self._parts = [chunk[-(len(SEG_OPEN) - 1) :]]
                return []
            self._inside, self._parts = True, []
            chunk = chunk[opening + len(SEG_OPEN) :]
        if self._codec is Codec.IRLE:
            self._parts.append(chunk)
            return []
        *ended, rest = chunk.split("\n")
        given: list[Row] = []
        for text in ended:
            given.extend(self._end_line("".join(self._parts) + text, cut=False))
            self._parts = []
        self._parts.append(rest)
        return given

    def finish(self) -> list[Row]:
        """Return all rows that were not given out; those that were never written are ``others``."""
        pending, self._parts = "".join(self._parts) if self._inside else "", []
        rows, cols = self._shape
        if self._codec is Codec.IRLE:
            grid = decode(pending[: _next_tag(pending, 0)], self._shape, self._labels, self._codec).grid
            given = [self._row(cells, grid.labels) for cells in grid.cells[self._given :].tolist()]
        else:
            given = self._end_line(pending, cut=True)
            given.extend(self._row([0] * cols, (OTHERS,)) for _ in range(rows - self._given))
        self._closed = True
        return given

    def _end_line(self, text: str, cut: bool) -> list[Row]:
        if self._closed or self._given == self._shape[0]:
            return []
        end = _next_tag(text, 0)
        if end < len(text):
            text, cut, self._closed = text[:end], True, True
        if not text.strip() and (cut or self._given == 0):
            return []
        line = read_line(text, 0, self._given, self._shape[1], self._codec, self._vocabulary, cut=cut)
        return [self._row(line.cells, self._vocabulary.labels)]

    def _row(self, cells: list[int], labels: tuple[str, ...]) -> Row:
        self._given += 1
        return Row(self._given - 1, tuple(labels[cell] for cell in cells))
