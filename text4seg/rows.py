"""Reading one row of a descriptor without ever failing, and reporting what had to be repaired.

Everything here takes time and memory linear in the text and in the grid; no count read from the text is
ever used as a size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from text4seg.labels import (
    MAX_LABEL_LENGTH,
    MAX_RAW_LENGTH,
    OTHERS,
    check_label,
    label_problem,
    normalize_label,
)


class Codec(StrEnum):
    """How a grid is written."""

    RRLE = "r-rle"
    """Run lengths within each row: the trained form."""

    IRLE = "i-rle"
    """Run lengths over the whole image in row-major order, one line: an ablation."""

    FULL = "full"
    """One label per patch, no counts, rows as in R-RLE: an ablation."""


class RepairKind(StrEnum):
    """What had to be repaired. All kinds but ``SEPARATOR`` may have changed the grid."""

    ROW_SHORT = "row_short"
    """The row has too few patches; the rest became ``others`` (or its only count was completed)."""
    ROW_LONG = "row_long"
    """The row has too many patches; they were cut."""
    ROWS_MISSING = "rows_missing"
    """The text ends before the last row; the rest became ``others``."""
    ROWS_EXTRA = "rows_extra"
    """There are more rows than the grid has; they were dropped."""
    COUNT_INVALID = "count_invalid"
    """A run length is missing, zero, negative, too large, in other digits or not a number."""
    LABEL_MISSING = "label_missing"
    """A run has no label; its patches became ``others``."""
    LABEL_UNKNOWN = "label_unknown"
    """A label is not allowed here; its patches became ``others``."""
    BLOCK_UNCLOSED = "block_unclosed"
    """``</seg>`` is missing."""
    BLOCK_EXTRA = "block_extra"
    """There is more than one block; the first was used."""
    BLOCK_MISSING = "block_missing"
    """There is no block; everything became ``others``."""
    SEPARATOR = "separator"
    """Separators, white space, letter case or the splitting of runs differ from the trained form; the grid
    is what was written."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair. At most one of each kind is reported per row, the first.

    Attributes:
        kind: what was wrong.
        row: 0-based grid row; equal to the number of rows when it is behind the last one.
        column: 0-based grid column; equal to the number of columns when it is behind the last one.
        detail: one line for people.
    """

    kind: RepairKind
    row: int
    column: int
    detail: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run as written, cut to its row.

    Attributes:
        row: 0-based grid row of its first patch.
        start: 0-based grid column of its first patch.
        length: patches it fills, at least 1. In I-RLE a run may go on into the next rows.
        label: the label those patches carry in the grid.
        label_span: (begin, end) character offsets of the label in the decoded text.
        count_span: the same for the digits; ``None`` when the text has no count there.
    """

    row: int
    start: int
    length: int
    label: str
    label_span: tuple[int, int]
    count_span: tuple[int, int] | None


class Vocabulary:
    """Label table of one decoding: fixed when ``labels`` is given, else filled by what the text names."""

    def __init__(self, labels: Sequence[str] | None) -> None:
        named = list(labels or ())
        if named and named[0] == OTHERS:
            named = named[1:]
        self.open = labels is None
        self.unknown: dict[str, None] = {}
        self._index = {OTHERS: 0}
        for position, label in enumerate(named):
            self._index.setdefault(check_label(label, f"labels[{position}]"), len(self._index))

    @property
    def labels(self) -> tuple[str, ...]:
        """The table, ``others`` first."""
        return tuple(self._index)

    def knows(self, name: str) -> bool:
        """Say whether a normalized name is in the table."""
        return name in self._index

    def index(self, name: str) -> int | None:
        """Return a normalized name's index, adding it in open vocabulary; ``None`` when not allowed."""
        found = self._index.get(name)
        if found is None and self.open and len(name) <= MAX_LABEL_LENGTH and label_problem(name) is None:
            found = self._index[name] = len(self._index)
        if found is None:
            self.unknown.setdefault(name[:MAX_LABEL_LENGTH])
        return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """One run before its length is settled: ``count`` is ``None`` when it could not be read."""

    name: str
    label_span: tuple[int, int]
    count: int | None
    count_span: tuple[int, int] | None
    fallback: int
    faults: tuple[tuple[RepairKind, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of text says: ``cells`` has ``width`` entries, indexes into the vocabulary."""

    cells: list[int]
    runs: list[Run]
    repairs: list[Repair]
    filled: int


def _quote(text: str) -> str:
    return repr(text[:40]) + ("..." if len(text) > 40 else "")


def _name(text: str) -> str:
    """Normalize a label as written; one that is far too long comes back too long, unchanged but cut."""
    return normalize_label(text) if len(text) <= MAX_RAW_LENGTH else text[: MAX_LABEL_LENGTH + 1]


def _read_count(text: str, width: int) -> tuple[int | None, int, str | None]:
    """Return (count or None, value to fall back to, what is wrong)."""
    if not text:
        return None, 1, "the run length is missing"
    # isdecimal is Unicode category Nd, exactly what int() reads; a length limit keeps int() cheap.
    significant = text.lstrip("0")
    if not text.isdecimal() or not significant:
        return None, 0, f"{_quote(text)} is not a run length"
    if len(significant) > 9 or int(significant) > width:
        return None, width, f"run length {_quote(text)} does not fit in {width} patches"
    value = int(significant)
    if value == 0:  # zero in other digits
        return None, 0, f"{_quote(text)} is not a run length"
    return value, value, None if str(value) == text else f"run length {_quote(text)} was read as {value}"


def _read_piece(
    text: str, begin: int, lead: str, width: int, full: bool, knows: Callable[[str], bool]
) -> _Piece:
    head, star, tail = text.rpartition("*")
    if full or not star or (not tail.strip().isdecimal() and knows(_name(text.strip()))):
        head, star, tail = text, "", ""
    label, count_text = head.strip(), tail.strip()
    faults: list[tuple[RepairKind, str]] = []
    label_at = begin + len(head) - len(head.lstrip())
    count_at = begin + len(text) - len(tail.lstrip())
    count, fallback, problem = (1, 1, None) if full else _read_count(count_text, width)
    if problem is not None:
        faults.append((RepairKind.COUNT_INVALID, problem))
    name = _name(label)
    if not name:
        faults.append((RepairKind.LABEL_MISSING, "a run has no label"))
        name = OTHERS
    elif (star and text != f"{lead}{label} *{count_text}") or (not star and text != lead + label):
        faults.append((RepairKind.SEPARATOR, f"white space in {_quote(text)}"))
    elif label != name:
        faults.append((RepairKind.SEPARATOR, f"spelling of {_quote(label)}"))
    return _Piece(
        name=name,
        label_span=(label_at, label_at + len(label)),
        count=count,
        count_span=(count_at, count_at + len(count_text)) if count_text else None,
        fallback=fallback,
        faults=tuple(faults),
    )


def _settle(pieces: list[_Piece], width: int, whole: bool) -> list[_Piece]:
    """Give every run a length; ``whole`` says that these are all runs of a line that was finished.

    A single unreadable length in a finished row is what the others leave over, and nothing when they leave
    nothing. A row that is one run whose digits begin the width ("*1" for "*16") lost its last digits. All
    else falls back.
    """
    if whole:
        unread = [index for index, piece in enumerate(pieces) if piece.count is None]
        left = width - sum(piece.count or 0 for piece in pieces)
        if len(unread) == 1 or left <= 0:
            left = max(left, 0)
            pieces = [replace(piece, count=left) if piece.count is None else piece for piece in pieces]
        count = pieces[0].count if len(pieces) == 1 and pieces[0].count_span else None
        if count and count < width and str(width).startswith(str(count)):
            detail = f"run length {count} was read as a truncated {width}"
            faults = (*pieces[0].faults, (RepairKind.ROW_SHORT, detail))
            pieces = [replace(pieces[0], count=width, faults=faults)]
    return [piece if piece.count is not None else replace(piece, count=piece.fallback) for piece in pieces]


def read_line(
    text: str,
    begin: int,
    row: int,
    width: int,
    codec: Codec,
    vocabulary: Vocabulary,
    *,
    cut: bool = False,
    final: bool = True,
    columns: int | None = None,
) -> Line:
    """Read one line: a row of the grid, or the whole grid in I-RLE.

    Args:
        text: the line, without its newline.
        begin: character offset of the line in the decoded text, for spans.
        row: grid row of the line's first patch.
        width: patches the line must describe.
        codec: how it is written.
        vocabulary: the allowed labels; new ones are added in open vocabulary.
        cut: the text ends with this line, without a newline.
        final: nothing will follow; what is missing is then reported.
        columns: grid columns when the line holds several rows (I-RLE).

    Returns:
        ``width`` cells; patches that the line does not describe are ``others``.
    """
    full = codec is Codec.FULL
    segments = text.split("|", width)
    pieces: list[_Piece] = []
    blanks = False
    at = begin
    for index, segment in enumerate(segments[:width]):
        lead = " " if index or row else ""
        if segment.strip():
            pieces.append(_read_piece(segment, at, lead, width, full, vocabulary.knows))
        else:
            blanks = True
        at += len(segment) + 1
    more = len(segments) > width
    # A run without its length at the very end was being written: its label may be half a word.
    if cut and not more and pieces and (len(pieces) < width if full else pieces[-1].count_span is None):
        pieces.pop()
    pieces = _settle(pieces, width, whole=not cut and not more)

    cells: list[int] = []
    runs: list[Run] = []
    repairs: dict[tuple[RepairKind, int], Repair] = {}

    def place(column: int) -> tuple[int, int]:
        return (row, column) if columns is None else divmod(column, columns)

    def report(kind: RepairKind, column: int, detail: str) -> None:
        at_row, at_column = place(column)
        repairs.setdefault((kind, at_row), Repair(kind, at_row, at_column, detail))

    previous = ""
    for piece in pieces:
        column = len(cells)
        for kind, detail in piece.faults:
            report(kind, column, detail)
        count = piece.count or 0
        length = min(count, width - column)
        if length < count:
            report(RepairKind.ROW_LONG, width, f"{_quote(piece.name)} goes on behind the last patch")
        if length == 0:
            continue
        label = vocabulary.index(piece.name)
        if label is None:
            report(RepairKind.LABEL_UNKNOWN, column, f"{_quote(piece.name)} is not an allowed label")
        elif previous == piece.name and not full:
            report(RepairKind.SEPARATOR, column, f"two runs of {_quote(piece.name)} side by side")
        previous = piece.name
        cells.extend([label or 0] * length)
        name = piece.name if label is not None else OTHERS
        runs.append(Run(*place(column), length, name, piece.label_span, piece.count_span))
    filled = len(cells)
    if more and segments[width].strip():
        report(RepairKind.ROW_LONG, width, f"more than {width} runs")
    elif more or (blanks and pieces and not (cut and not final)):
        report(RepairKind.SEPARATOR, filled, "an empty run")
    if filled < width:
        if final or not cut:
            report(RepairKind.ROW_SHORT, filled, f"{filled} of {width} patches are described")
        cells.extend([0] * (width - filled))
    return Line(cells, runs, sorted(repairs.values(), key=lambda repair: (repair.row, repair.column)), filled)
