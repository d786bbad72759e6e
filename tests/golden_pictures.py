"""The golden pictures: photographs and what is read from them, marks and the overlay that is drawn of them.

The Go client must read and draw the same pixels. ``python -m tests.golden_pictures`` writes the expected ones
anew, after a change that is meant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from text4seg.masks import Rle, decode_rle
from text4seg_client.images import read_pixels
from text4seg_client.overlay import draw_overlay

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = ".expected.png"
PHOTOGRAPHS = sorted(path for path in (GOLDEN / "photos").iterdir() if not path.name.endswith(EXPECTED))
OVERLAYS = sorted((GOLDEN / "overlays").glob("*.json"))


@dataclass(frozen=True)
class _Mark:
    label: str
    score: float
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_] | None


def expected_photograph(path: Path) -> Path:
    """The picture that must be read from a file."""
    return path.with_name(path.name + EXPECTED)


def expected_overlay(path: Path) -> Path:
    """The picture that must be drawn of a case."""
    return path.with_suffix(".png")


def pixels(path: Path) -> NDArray[np.uint8]:
    """A picture: uint8 RGB [height, width, 3]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def overlay(path: Path) -> NDArray[np.uint8]:
    """The overlay of a case, over a background whose colours run with x and y."""
    case = json.loads(path.read_text("utf-8"))
    height, width = case["size"]
    y, x = np.mgrid[:height, :width]
    background = np.dstack((x * 255 // width, y * 255 // height, (x + y) * 3 % 256)).astype(np.uint8)
    marks = [
        _Mark(
            mark["label"],
            mark["score"],
            tuple(mark["box"]),
            None if mark["counts"] is None else decode_rle(Rle((height, width), mark["counts"])),
        )
        for mark in case["marks"]
    ]
    return draw_overlay(background, marks, case["labels"])


def main() -> None:
    """Write all expected pictures."""
    for path in PHOTOGRAPHS:
        Image.fromarray(read_pixels(path)).save(expected_photograph(path), optimize=True)
    for path in OVERLAYS:
        Image.fromarray(overlay(path)).save(expected_overlay(path), optimize=True)


if __name__ == "__main__":
    main()
