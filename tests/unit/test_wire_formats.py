"""Forms of masks, grids and times on the wire."""

import numpy as np
import pytest

from tests.wire_strategies import encode_png, through
from text4seg import wire
from text4seg.masks import Box
from text4seg.segmentation import (
    MaskFormat,
    Region,
    Timing,
)


def test_grids_travel_in_steps_of_one_part_in_255() -> None:
    values = np.array([[0.0, 1.0, 0.5004]], dtype=np.float32)
    back = wire.grid_from_proto(through(wire.grid_to_proto(values)))
    assert back.dtype == np.float32
    assert np.abs(back - values).max() <= 0.5 / 255
    assert wire.grid_to_proto(np.array([[True, False]])).cells == b"\xff\x00"


def test_rle_counts_are_those_of_coco() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=np.bool_)
    message = wire.rle_to_proto(mask)
    assert (message.size.height, message.size.width, message.counts) == (2, 3, "2111")


@pytest.mark.parametrize(
    "mask_format", [MaskFormat.COCO_RLE, MaskFormat.POLYGON, MaskFormat.PNG, MaskFormat.GRID]
)
def test_a_missing_mask_is_a_mistake_of_the_server(mask_format: MaskFormat) -> None:
    region = Region("dog", None, None, Box(0, 0, 1, 1), 0.5, 1)
    with pytest.raises(TypeError):
        wire.region_to_proto(region, mask_format, encode_png)


def test_png_needs_a_codec() -> None:
    region = Region("dog", np.ones((2, 3), dtype=np.bool_), None, Box(0, 0, 3, 2), 0.5, 6)
    with pytest.raises(TypeError):
        wire.region_to_proto(region, MaskFormat.PNG)
    message = wire.region_to_proto(region, MaskFormat.PNG, encode_png)
    with pytest.raises(TypeError):
        wire.region_from_proto(message)


def test_negative_durations_become_zero() -> None:
    assert wire.timing_from_proto(wire.timing_to_proto(Timing(total_s=-1e-9))).total_s == 0


def test_regions_compare_by_content() -> None:
    mask = np.eye(3, dtype=np.bool_)
    region = Region("dog", mask, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region == Region("dog", mask.copy(), None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != Region("dog", ~mask, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != Region("dog", None, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != "dog"
