"""What the light refiner does with a mask after its network."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("timm")
pytest.importorskip("segment_anything")

from services.refiner.light_model import without_strays


def area(*boxes):
    mask = np.zeros((60, 80), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


THING, NEAR, STRAY, PART = (20, 20, 50, 50), (10, 30, 12, 32), (0, 70, 1, 74), (40, 60, 50, 70)


def test_a_stray_piece_is_dropped_where_nothing_was_expected():
    found = without_strays(area(THING, NEAR, STRAY, PART), area((22, 22, 45, 45), NEAR))
    np.testing.assert_array_equal(found, area(THING, NEAR, PART))


def test_pieces_that_meet_at_a_corner_are_one():
    corner = (50, 50, 51, 51)
    np.testing.assert_array_equal(without_strays(area(THING, corner), area(THING)), area(THING, corner))


@pytest.mark.parametrize("expected", [area(), area(NEAR), ~area()])
def test_a_mask_in_one_piece_stays_as_it_is(expected):
    np.testing.assert_array_equal(without_strays(area(THING), expected), area(THING))


def test_nothing_is_left_of_nothing_and_strays_alone_stay():
    np.testing.assert_array_equal(without_strays(area(), area(THING)), area())
    dust = np.zeros((60, 80), bool)
    dust[::6, ::6] = True
    np.testing.assert_array_equal(without_strays(dust, area()), dust)
