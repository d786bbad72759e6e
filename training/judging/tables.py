"""Tables of figures: as text, and as values for JSON."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

NOTE_WIDTH = 110

Cell: TypeAlias = str | int | float | None
"""A float is a share or seconds and shown with three digits; NaN and None mean that there is no figure."""


@dataclass(frozen=True, slots=True)
class Table:
    """One suite's figures.

    Attributes:
        name: Of the suite.
        title: What it measures.
        columns: Their names.
        rows: As many cells each as there are columns.
        notes: What one has to know to read it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; rows as objects, what is not a number as null."""
        return {
            "title": self.title,
            "rows": [
                {
                    column: None if isinstance(cell, float) and math.isnan(cell) else cell
                    for column, cell in zip(self.columns, row, strict=True)
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def cell_text(cell: Cell) -> str:
    """Return a cell as it is shown."""
    match cell:
        case None:
            return "-"
        case float():
            return "-" if math.isnan(cell) else f"{cell:.3f}"
        case _:
            return str(cell)


def table_text(table: Table) -> str:
    """Return a table for a terminal: its title, aligned columns, and its notes."""
    rows = [tuple(map(cell_text, row)) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    numeric = [all(not isinstance(row[place], str) for row in table.rows) for place in range(len(widths))]
    lines = [f"{table.name}: {table.title}", _line(table.columns, widths, numeric)]
    lines.append("  ".join("-" * width for width in widths))
    lines += [_line(row, widths, numeric) for row in rows]
    for note in table.notes:
        lines += textwrap.wrap(note, NOTE_WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    parts = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(parts).rstrip()
