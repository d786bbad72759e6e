"""Views of photographs, whole or cropped and mirrored, and of composed scenes, with the masks to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.nano.photos import Photo, held_out
from training.nano.scenes import SIDE, composed_scene, merged
from training.nano.sprites import Sprite

TRUTH_SIDE = 256
"""Side of the squashed true masks."""
LEAST_SHARE = 0.01
"""Smallest target, as a share of the view."""
MOST_MASKS = 24
"""Targets of one view."""
LEAST_CROP = 0.6
"""Shortest side of a crop, as a share of the photograph's."""


ONE_IN = 5
"""One photograph in so many is kept for evaluation, the same ones as for the nano model."""


def is_held_out(image_id: int) -> bool:
    """Say whether a photograph is kept for evaluation."""
    return held_out(f"photo {image_id}", ONE_IN)


@dataclass(frozen=True, slots=True)
class View:
    """What the network sees of a photograph, and what is to be found there.

    Attributes:
        image: uint8 RGB [height, width, 3].
        masks: bool [TRUTH_SIDE, TRUTH_SIDE], squashed as the image will be.
        names: what a model may be asked for to find each mask; empty where it is not to be asked.
    """

    image: NDArray[np.uint8]
    masks: tuple[NDArray[np.bool_], ...]
    names: tuple[str, ...] = ()


def draw_view(photo: Photo, rng: np.random.Generator, *, whole: bool) -> View:
    """Return a view of a photograph; targets are single instances and all instances of a name together.

    Args:
        photo: the photograph.
        rng: draws the crop, whether it is mirrored, and the targets where there are too many.
        whole: the photograph as it is.
    """
    height, width, _ = photo.image.shape
    rows, cols = slice(0, height), slice(0, width)
    step = 1
    if not whole:
        rows, cols = _part(height, rng), _part(width, rng)
        step = int(rng.choice((1, -1)))
    targets = [target[rows, cols][:, ::step] for target in targets_of(photo)]
    targets = [target for target in targets if target.mean() >= LEAST_SHARE]
    chosen = rng.permutation(len(targets))[:MOST_MASKS]
    return View(photo.image[rows, cols][:, ::step], tuple(squashed(targets[index]) for index in chosen))


def draw_scene(photos: Sequence[Photo], sprites: Sequence[Sprite], rng: np.random.Generator) -> View:
    """Return a view of sprites on a photograph; targets are all things of a name together.

    Half of the scenes are drawn as small as the nano model's, and half of them are as varied as it trains on.
    """
    side, varied = int(rng.choice((SIDE, 2 * SIDE))), bool(rng.random() < 0.5)
    scene = composed_scene(photos, sprites, rng, varied=varied, side=side)
    found = [(name, mask) for name, mask in sorted(merged(scene).items()) if mask.mean() >= LEAST_SHARE]
    return View(scene.image, tuple(squashed(mask) for _, mask in found), tuple(name for name, _ in found))


def targets_of(photo: Photo) -> list[NDArray[np.bool_]]:
    """Return every instance's mask, and the union of each name that several instances bear."""
    unions = []
    for name in dict.fromkeys(photo.names):
        masks = [mask for mask, own in zip(photo.masks, photo.names, strict=True) if own == name]
        if len(masks) > 1:
            unions.append(np.any(masks, axis=0))
    return [*photo.masks, *unions]


def squashed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Resize a mask, bool [height, width], to bool [TRUTH_SIDE, TRUTH_SIDE] by area."""
    size = (TRUTH_SIDE, TRUTH_SIDE)
    shares = cv2.resize(mask.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    return np.asarray(shares >= 128)


def _part(length: int, rng: np.random.Generator) -> slice:
    kept = max(1, round(length * rng.uniform(LEAST_CROP, 1)))
    begin = int(rng.integers(length - kept + 1))
    return slice(begin, begin + kept)


def drawn_photos(count: int, seed: int) -> Sequence[Photo]:
    """Draw pictures of ellipses on noise: enough to try out the recipe, not to learn from."""
    rng = np.random.default_rng(seed)
    return [_drawn_photo(number, rng) for number in range(count)]


def _drawn_photo(number: int, rng: np.random.Generator) -> Photo:
    height, width = (int(side) for side in rng.integers(120, 240, 2))
    image = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    masks: list[NDArray[np.bool_]] = []
    for _ in range(3):
        canvas = np.zeros((height, width), np.uint8)
        middle = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(width // 8, width // 3)), int(rng.integers(height // 8, height // 3)))
        cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, (1,), -1)
        mask = np.asarray(canvas > 0)
        image[mask] = image[mask] // 4 + rng.integers(60, 190, 3).astype(np.uint8)
        masks = [other & ~mask for other in masks] + [mask]
    return Photo(number, image, ("ellipse", "ellipse", "disc"), tuple(masks), True)
