"""Training images with known contents: augmented photographs and composed scenes.

A scene is a square picture and the visible mask of every named thing in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.nano.colours import turned
from training.nano.photos import Photo
from training.nano.sprites import Sprite

SIDE = 256
"""Side of a scene in pixels, unless it is drawn larger."""


@dataclass(slots=True)
class Scene:
    """One training image.

    Attributes:
        image: uint8 RGB [side, side, 3].
        names: Name of each instance.
        masks: Visible pixels of each instance, bool [side, side].
        complete: Whether things of the photograph's other categories would have been annotated.
        source: Id of the photograph, for captions; -1 where captions do not hold.
    """

    image: NDArray[np.uint8]
    names: list[str] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    complete: bool = True
    source: int = -1

    def paste(self, name: str, picture: NDArray[np.uint8], left: int, top: int) -> None:
        """Lay an RGBA picture over the scene; what it covers is no longer visible."""
        height, width = picture.shape[:2]
        side = len(self.image)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, side), min(top + height, side)
        if x1 <= x0 or y1 <= y0:
            return
        part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
        alpha = part[..., 3:].astype(np.float32) / 255.0
        area = self.image[y0:y1, x0:x1]
        self.image[y0:y1, x0:x1] = (area * (1 - alpha) + part[..., :3] * alpha).astype(np.uint8)
        mask = np.zeros((side, side), bool)
        mask[y0:y1, x0:x1] = alpha[..., 0] > 0.5
        for other in self.masks:
            other &= ~mask
        self.names.append(name)
        self.masks.append(mask)


def resized(picture: NDArray[np.uint8], size: tuple[int, int], interpolation: int) -> NDArray[np.uint8]:
    """Return a picture of another size, (width, height)."""
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)


def jitter(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and colour balance a little."""
    gains = rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
    shifted = (image.astype(np.float32) - 128.0) * gains + 128.0 + rng.uniform(-20, 20)
    return np.clip(shifted, 0, 255).astype(np.uint8)


def photo_scene(photo: Photo, rng: np.random.Generator, *, augment: bool = True, side: int = SIDE) -> Scene:
    """Return a photograph squashed to a square; augmented ones are cropped, flipped and changed in colour."""
    height, width = photo.image.shape[:2]
    box = (0, 0, width, height)
    if augment and rng.random() < 0.85:
        share = rng.uniform(0.45, 1.0)
        crop_w = max(16, int(width * min(1.0, share * rng.uniform(0.85, 1.18))))
        crop_h = max(16, int(height * min(1.0, share * rng.uniform(0.85, 1.18))))
        left, top = int(rng.integers(0, width - crop_w + 1)), int(rng.integers(0, height - crop_h + 1))
        box = (left, top, left + crop_w, top + crop_h)
    flip = augment and rng.random() < 0.5

    def squash(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        part = resized(array[box[1] : box[3], box[0] : box[2]], (side, side), cv2.INTER_AREA)
        return np.ascontiguousarray(part[:, ::-1]) if flip else part

    image = squash(photo.image)
    scene = Scene(jitter(image, rng) if augment else image.copy(), complete=photo.complete)
    scene.source = photo.image_id if box == (0, 0, width, height) else -1
    for name, mask in zip(photo.names, photo.masks, strict=True):
        visible = squash(np.where(mask, 255, 0).astype(np.uint8)) > 127
        if visible.any():
            scene.names.append(name)
            scene.masks.append(visible)
    return scene


def cut_out(photo: Photo, index: int) -> NDArray[np.uint8]:
    """Return one instance of a photograph as an RGBA picture."""
    mask = photo.masks[index]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = cv2.GaussianBlur(mask[part].astype(np.uint8) * 255, (3, 3), 0)
    return np.dstack([photo.image[part], alpha])


def transformed(picture: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an RGBA picture flipped, turned and changed in colour, its longest side about `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(6, round(width * scale * rng.uniform(0.85, 1.15))), max(6, round(height * scale)))
    picture = resized(picture, size, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
    if rng.random() < 0.5:
        angle = float(rng.uniform(-25, 25))
        diagonal = int(np.ceil(np.hypot(*size)))
        matrix = np.asarray(cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1.0), np.float64)
        matrix[:, 2] += [(diagonal - size[0]) / 2, (diagonal - size[1]) / 2]
        turned = cv2.warpAffine(picture, matrix, (diagonal, diagonal), flags=cv2.INTER_LINEAR)
        picture = np.asarray(turned, np.uint8)
    return np.dstack([jitter(picture[..., :3], rng), picture[..., 3]])


def background(
    photos: Sequence[Photo], rng: np.random.Generator, *, varied: bool = False, side: int = SIDE
) -> Scene:
    """Return what sprites are laid on: a part of a photograph, or a plain gradient.

    A few hundred photographs are soon known by heart. Varied ones are therefore turned, changed in colour, or
    two in one, which nothing is known of.
    """
    if not photos or rng.random() < 0.15:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        return Scene(resized(corners, (side, side), cv2.INTER_LINEAR))
    scene = photo_scene(photos[int(rng.integers(len(photos)))], rng, side=side)
    if not varied:
        return scene
    if rng.random() < 0.4:
        other = photo_scene(photos[int(rng.integers(len(photos)))], rng, side=side).image
        quarter = np.ascontiguousarray(np.rot90(other, int(rng.integers(4))))
        share = float(rng.uniform(0.3, 0.7))
        scene = Scene(np.asarray(cv2.addWeighted(scene.image, share, quarter, 1 - share, 0), np.uint8))
        scene.complete = False
    if rng.random() < 0.5:
        scene.image = np.ascontiguousarray(scene.image[..., rng.permutation(3)])
    return scene


def composed_scene(
    photos: Sequence[Photo],
    sprites: Sequence[Sprite],
    rng: np.random.Generator,
    *,
    varied: bool = False,
    side: int = SIDE,
) -> Scene:
    """Return a background with one to five sprites; now and then the same one twice.

    Varied scenes are harder, for training: half of them have three to nine smaller sprites, so that one image
    teaches many names and that what stands out need not be what is asked for; some sprites have their hues
    turned, so that a name comes in several colours; and backgrounds are varied.
    """
    scene = background(photos, rng, varied=varied, side=side)
    scene.source = -1
    if varied and rng.random() < 0.5:
        count = int(rng.integers(3, 10))
    else:
        count = int(rng.choice([1, 2, 3, 4, 5], p=[0.2, 0.3, 0.25, 0.15, 0.1]))
    chosen = [sprites[int(rng.integers(len(sprites)))] for _ in range(count)]
    if count > 1 and rng.random() < 0.35:
        chosen[1] = chosen[0]
    for sprite in chosen:
        longest = int(side * rng.uniform(0.18, 0.6) / (1 + 0.12 * (count - 1)))
        drawn = sprite.load()
        if varied and rng.random() < 0.2:
            drawn = turned(drawn, int(rng.integers(20, 160)))
        picture = transformed(drawn, longest, rng)
        height, width = picture.shape[:2]
        left, top = (
            int(rng.integers(-width // 6, side - width * 5 // 6)),
            int(rng.integers(-height // 6, side - height * 5 // 6)),
        )
        scene.paste(sprite.noun, picture, left, top)
    return scene


def mixed_photo_scene(photos: Sequence[Photo], rng: np.random.Generator, *, side: int = SIDE) -> Scene:
    """Return an augmented photograph; sometimes with instances of other photographs pasted on."""
    scene = photo_scene(photos[int(rng.integers(len(photos)))], rng, side=side)
    if rng.random() < 0.45:
        scene.source = -1
        for _ in range(int(rng.integers(1, 4))):
            donor = photos[int(rng.integers(len(photos)))]
            large = [index for index, mask in enumerate(donor.masks) if mask.mean() > 0.01]
            if not large or not donor.complete:
                continue
            index = large[int(rng.integers(len(large)))]
            picture = transformed(cut_out(donor, index), int(side * rng.uniform(0.25, 0.75)), rng)
            height, width = picture.shape[:2]
            left, top = (
                int(rng.integers(-width // 4, max(1, side - width * 3 // 4))),
                int(rng.integers(-height // 4, max(1, side - height * 3 // 4))),
            )
            scene.paste(donor.names[index], picture, left, top)
    return scene


def merged(scene: Scene) -> dict[str, NDArray[np.bool_]]:
    """Return the union of the visible masks by name."""
    union: dict[str, NDArray[np.bool_]] = {}
    for name, mask in zip(scene.names, scene.masks, strict=True):
        if mask.any():
            union[name] = union[name] | mask if name in union else mask.copy()
    return union
