"""The golden masks and grids, shared with the Go client: one file per valid or refused one.

A mask has ``size``, COCO's ``counts``, and the ``rows`` that they stand for, null when they must be refused.
A grid has its ``shape``, ``labels`` and ``cells`` as they travel, and the ``masks`` that the labels have in
an image of ``size``, null when the grid must be refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from text4seg import wire
from text4seg.errors import InvalidInputError, LabelInvalidError
from text4seg.masks import Rle, decode_rle, encode_rle, upsample
from text4seg.v1 import mask_pb2

GOLDEN = Path(__file__).parent.parent / "golden"


def cases(folder: str, expected: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cases of a folder: those that must be read, those that must be refused."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((GOLDEN / folder).glob("*"))}
    assert found
    return (
        {name: case for name, case in found.items() if case[expected] is not None},
        {name: case for name, case in found.items() if case[expected] is None},
    )


MASKS, REFUSED_MASKS = cases("masks", "rows")
GRIDS, REFUSED_GRIDS = cases("grids", "masks")


def pixels(rows: list[str]) -> NDArray[np.bool_]:
    return np.array([[digit == "1" for digit in row] for row in rows])


def grid_message(case: dict[str, Any]) -> mask_pb2.LabelGrid:
    rows, columns = case["shape"]
    return mask_pb2.LabelGrid(rows=rows, columns=columns, labels=case["labels"], cells=case["cells"])


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str) -> None:
    case = MASKS[name]
    expected = pixels(case["rows"])
    np.testing.assert_array_equal(decode_rle(Rle(tuple(case["size"]), case["counts"])), expected)
    assert encode_rle(expected).counts == case["counts"]
    theirs = coco.encode(np.asfortranarray(expected.astype(np.uint8)))
    assert theirs["counts"].decode("ascii") == case["counts"]


@pytest.mark.parametrize("name", REFUSED_MASKS)
def test_refused_masks(name: str) -> None:
    case = REFUSED_MASKS[name]
    with pytest.raises(InvalidInputError):
        decode_rle(Rle(tuple(case["size"]), case["counts"]))


@pytest.mark.parametrize("name", GRIDS)
def test_grids(name: str) -> None:
    case = GRIDS[name]
    grid = wire.label_grid_from_proto(grid_message(case))
    for label, rows in case["masks"].items():
        np.testing.assert_array_equal(upsample(grid.mask(label), tuple(case["size"])), pixels(rows))


@pytest.mark.parametrize("name", REFUSED_GRIDS)
def test_refused_grids(name: str) -> None:
    with pytest.raises((ValueError, LabelInvalidError)):
        wire.label_grid_from_proto(grid_message(REFUSED_GRIDS[name]))
