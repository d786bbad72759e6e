"""The colour of a thing, where one word says it."""

import cv2
import numpy as np
from numpy.typing import NDArray

HUES = (
    (8, "red"),
    (20, "orange"),
    (33, "yellow"),
    (85, "green"),
    (130, "blue"),
    (152, "purple"),
    (171, "pink"),
)
"""Upper ends of hues in OpenCV's degrees (0..179), and their names; above the last it is red again."""
COLOURS = (*(name for _, name in HUES), "brown", "black", "white")
NEIGHBOURS = {
    "red": ("orange", "pink", "brown"), "orange": ("red", "yellow", "brown"), "yellow": ("orange", "brown"),
    "green": ("blue",), "blue": ("green", "purple"), "purple": ("blue", "pink"), "pink": ("red", "purple"),
    "brown": ("red", "orange", "yellow", "black"), "black": ("brown",),
}  # fmt: skip
"""Colours that people may call alike: neither is ever asked for as absent where the other is."""
MOSTLY = 0.55
"""Share of a thing's pixels that must have its colour."""
FEWEST = 256
"""Pixels below which a thing's colour is not told."""


def colour_of(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    """Return the colour of what a mask shows, one of `COLOURS`; "" where no single word says it.

    Args:
        image: uint8 RGB [height, width, 3].
        mask: bool [height, width].
    """
    pixels = image[mask]
    if len(pixels) < FEWEST:
        return ""
    hue, saturation, value = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV)[0].T
    names = np.searchsorted([end for end, _ in HUES], hue, side="right") % len(HUES)
    brown = (names <= 1) & (value < 150)
    names[brown] = COLOURS.index("brown")
    names[(saturation < 60) | (value < 60)] = -1
    names[value < 50] = COLOURS.index("black")
    names[(saturation < 40) & (value > 190)] = COLOURS.index("white")
    counts = np.bincount(names[names >= 0], minlength=len(COLOURS))
    best = int(counts.argmax())
    return COLOURS[best] if counts[best] >= MOSTLY * len(pixels) else ""


def turned(picture: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Return an RGBA picture with its hues turned, 0..179 as OpenCV counts them."""
    hsv = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + degrees) % 180
    return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), picture[..., 3]])
