"""Overlays: what is tinted, what stays, colours, tags."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from text4seg.masks import Box
from text4seg.segmentation import Detection, Region
from text4seg_client.overlay import colour_of, draw_overlay

GREY = np.full((120, 200, 3), 100, np.uint8)


@dataclass(frozen=True)
class Named:
    """A mark without a mask."""

    label: str
    box: tuple[int, int, int, int]
    score: float = 0.5


def _region(label: str, box: tuple[int, int, int, int], size: tuple[int, int] = (120, 200)) -> Region:
    mask = np.zeros(size, np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return Region(label, mask, None, Box(*box), 0.9, int(mask.sum()))


def _nearest(pixel: NDArray[np.uint8], indices: int) -> int:
    distances = [float(np.abs(pixel.astype(float) - colour_of(index)).sum()) for index in range(indices)]
    return int(np.argmin(distances))


def test_the_region_is_tinted_and_its_rim_is_opaque() -> None:
    seen = draw_overlay(GREY, [_region("cat", (60, 40, 140, 100))])
    inside, rim = seen[80, 100].astype(int), seen[80, 60]
    assert inside.tolist() != [100, 100, 100]
    assert np.abs(rim.astype(int) - colour_of(0)).sum() < np.abs(inside - colour_of(0)).sum()
    # The photograph shows through: the tint moves towards the colour, not onto it.
    assert 0.25 < np.abs(inside - 100).sum() / np.abs(np.asarray(colour_of(0)) - 100).sum() < 0.5


def test_pixels_away_from_regions_and_tags_stay() -> None:
    seen = draw_overlay(GREY, [_region("cat", (60, 60, 140, 100))])
    assert np.array_equal(seen[105:], GREY[105:])
    assert np.array_equal(seen[:, 150:], GREY[:, 150:])


def test_the_arguments_stay_as_they_were() -> None:
    image = GREY.copy()
    region = _region("cat", (60, 40, 140, 100))
    assert region.mask is not None
    before = region.mask.copy()
    draw_overlay(image, [region])
    assert np.array_equal(image, GREY)
    assert np.array_equal(region.mask, before)


def test_a_label_has_the_colour_of_its_place_in_the_query() -> None:
    labels = ("cat", "dog", "bird")
    alone = draw_overlay(GREY, [_region("bird", (60, 40, 140, 100))], labels)
    together = draw_overlay(
        GREY, [_region("cat", (0, 40, 50, 100)), _region("bird", (60, 40, 140, 100))], labels
    )
    assert _nearest(alone[80, 60], 3) == _nearest(together[80, 60], 3) == 2


def test_instances_of_a_label_share_its_colour() -> None:
    seen = draw_overlay(GREY, [_region("cat", (10, 40, 60, 100)), _region("cat", (100, 40, 160, 100))])
    assert np.array_equal(seen[80, 10], seen[80, 100])


def test_small_regions_stay_visible_over_large_ones() -> None:
    small, large = _region("small", (90, 60, 110, 80)), _region("large", (20, 30, 180, 110))
    for order in ([small, large], [large, small]):
        seen = draw_overlay(GREY, order, ("small", "large"))
        assert _nearest(seen[70, 90], 2) == 0


def test_colours_are_distinct() -> None:
    for one, other in itertools.combinations(range(36), 2):
        distance = np.abs(np.asarray(colour_of(one)) - np.asarray(colour_of(other))).sum()
        assert distance > 30, (one, other)


def test_detections_are_outlined() -> None:
    seen = draw_overlay(GREY, [Detection("cat", Box(60, 40, 140, 100), 0.7)])
    assert not np.array_equal(seen[80, 60:63], GREY[80, 60:63])
    assert np.array_equal(seen[80, 70:130], GREY[80, 70:130])


def test_an_enlarged_picture_shows_the_same_thing() -> None:
    seen = draw_overlay(GREY, [_region("cat", (60, 60, 140, 100))], scale=3)
    assert seen.shape == (360, 600, 3)
    assert seen[240, 300].tolist() != [100, 100, 100]
    assert np.array_equal(seen[320:], np.full((40, 600, 3), 100, np.uint8))


def test_tags_of_one_place_do_not_hide_each_other() -> None:
    boxes = [Named(f"label {index}", (50, 50, 90, 70)) for index in range(4)]
    seen = draw_overlay(np.full((300, 400, 3), 100, np.uint8), boxes)
    for index in range(4):
        area = int((np.abs(seen.astype(int) - colour_of(index)).sum(axis=-1) < 6).sum())
        assert area > 300, index


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    box=st.tuples(st.integers(-5, 70), st.integers(-5, 70), st.integers(0, 40), st.integers(0, 40)),
    label=st.text(max_size=60).map(lambda text: text or "x"),
)
def test_whatever_is_drawn_the_picture_keeps_its_size(
    size: tuple[int, int], box: tuple[int, int, int, int], label: str
) -> None:
    image = np.zeros((*size, 3), np.uint8)
    x0, y0, width, height = box
    mark = Named(label.replace("\n", " "), (x0, y0, x0 + width, y0 + height))
    assert draw_overlay(image, [mark, mark]).shape == image.shape


def test_an_empty_mask_and_no_marks_change_nothing_but_the_tag() -> None:
    assert np.array_equal(draw_overlay(GREY, []), GREY)
    empty = Region("cat", np.zeros((120, 200), np.bool_), None, Box(0, 0, 0, 0), 0.1, 0)
    assert np.array_equal(draw_overlay(GREY, [empty])[60:], GREY[60:])


@pytest.mark.parametrize("image", [GREY[..., 0], GREY.astype(np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_other_arrays_are_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        draw_overlay(image, [])


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'cat'"):
        draw_overlay(GREY, [_region("cat", (0, 0, 5, 5), size=(60, 100))])
