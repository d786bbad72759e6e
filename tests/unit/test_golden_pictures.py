"""The golden pictures, shared with the Go client, and the letters that its overlays are drawn with."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.golden_pictures import (
    OVERLAYS,
    PHOTOGRAPHS,
    expected_overlay,
    expected_photograph,
    overlay,
    pixels,
)
from text4seg_client.images import read_pixels

GLYPHS = Path(__file__).parents[2] / "clients" / "go" / "overlay"


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_photographs(path: Path) -> None:
    np.testing.assert_array_equal(read_pixels(path), pixels(expected_photograph(path)))


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlays(path: Path) -> None:
    np.testing.assert_array_equal(overlay(path), pixels(expected_overlay(path)))


def test_the_letters_of_the_go_client_are_those_of_the_pinned_pillow() -> None:
    written = runpy.run_path(str(GLYPHS / "make_glyphs.py"))["atlas"]()
    assert gzip.decompress((GLYPHS / "glyphs.gz").read_bytes()) == written, (
        "run `python clients/go/overlay/make_glyphs.py`"
    )
