"""Colours of things, told from their pixels."""

import numpy as np
import pytest

from training.nano.colours import COLOURS, FEWEST, NEIGHBOURS, colour_of, turned

ALL = np.ones((20, 20), bool)
SEEN = {
    "red": (220, 30, 30), "orange": (240, 140, 20), "yellow": (240, 230, 40), "green": (40, 170, 60),
    "blue": (30, 60, 220), "purple": (140, 40, 200), "pink": (240, 60, 170), "brown": (120, 70, 20),
    "black": (15, 15, 18), "white": (245, 245, 240),
}  # fmt: skip


def plain(colour):
    return np.full((20, 20, 3), colour, np.uint8)


@pytest.mark.parametrize(("name", "colour"), SEEN.items())
def test_plain_colours(name, colour):
    assert colour_of(plain(colour), ALL) == name


def test_every_colour_is_seen():
    assert set(SEEN) == set(COLOURS)
    assert all(near in COLOURS for group in NEIGHBOURS.values() for near in group)


def test_only_the_mask_counts():
    image = plain(SEEN["red"])
    image[:, 10:] = SEEN["blue"]
    left = ALL.copy()
    left[:, 13:] = False
    assert colour_of(image, left) == "red"
    assert colour_of(image, ALL) == ""


def test_grey_and_tiny_things_have_no_colour():
    assert colour_of(plain((128, 128, 128)), ALL) == ""
    few = np.zeros((20, 20), bool)
    few.flat[: FEWEST - 1] = True
    assert colour_of(plain(SEEN["red"]), few) == ""
    few.flat[FEWEST - 1] = True
    assert colour_of(plain(SEEN["red"]), few) == "red"


def test_turning_hues_keeps_the_outline():
    picture = np.dstack([plain(SEEN["red"]), np.full((20, 20), 99, np.uint8)])
    blue = turned(picture, 115)
    assert colour_of(np.ascontiguousarray(blue[..., :3]), ALL) == "blue"
    assert (blue[..., 3] == 99).all()
