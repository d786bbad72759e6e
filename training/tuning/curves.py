"""The loss curves of a run: a CSV file and a picture of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

COLUMNS = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")
CSV_FILE, PLOT_FILE = "loss.csv", "loss.png"

_SIZE = (960, 540)
_FRAME = (72, 40, 930, 480)
"""Left, top, right and bottom of the axes in pixels."""
_TICKS = 5
_COLOURS = {"loss": (31, 95, 168), "eval_loss": (200, 80, 30)}
_NAMES = {"loss": "training data", "eval_loss": "held-out data"}


def write_csv(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write what was logged, one row per step, in place of what is there.

    Args:
        history: as ``TrainerState.log_history`` holds it.
        folder: of the run.
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            row = rows.setdefault(int(entry["step"]), {})
            row.update({column: entry[column] for column in COLUMNS if column in entry})
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    replace_file(folder / CSV_FILE, file.getvalue().encode())


def draw_curves(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw loss against step, on training data and on held-out data.

    Args:
        history: as ``TrainerState.log_history`` holds it.
        folder: of the run.
    """
    curves = {
        name: [(int(entry["step"]), float(entry[name])) for entry in history if name in entry]
        for name in _COLOURS
    }
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return
    last, top = max(step for step, _ in points), max(loss for _, loss in points) * 1.05 or 1.0
    left, up, right, down = _FRAME

    def place(step: float, loss: float) -> tuple[float, float]:
        return left + (right - left) * step / last, down - (down - up) * loss / top

    picture = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=15)
    for tick in range(_TICKS + 1):
        step, loss = last * tick / _TICKS, top * tick / _TICKS
        x, y = place(step, loss)
        draw.line((left, y, right, y), fill=(228, 228, 228))
        draw.text((left - 8, y), f"{loss:.3g}", fill="black", font=font, anchor="rm")
        draw.text((x, down + 8), f"{step:.0f}", fill="black", font=font, anchor="mt")
    draw.line((left, up, left, down, right, down), fill="black")
    draw.text(((left + right) / 2, down + 34), "step", fill="black", font=font, anchor="mt")
    draw.text((left, up - 12), "loss per answer token", fill="black", font=font, anchor="lb")
    edge = right
    for name, curve in curves.items():
        if not curve:
            continue
        draw.line([place(*point) for point in curve], fill=_COLOURS[name], width=2, joint="curve")
        for x, y in (place(*point) for point in curve) if len(curve) < 40 else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLOURS[name])
        draw.text((edge, up - 12), _NAMES[name], fill=_COLOURS[name], font=font, anchor="rb")
        edge -= int(draw.textlength(_NAMES[name], font=font)) + 24
    file = io.BytesIO()
    picture.save(file, "PNG")
    replace_file(folder / PLOT_FILE, file.getvalue())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
