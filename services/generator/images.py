"""Images on their way into a model: squashed once, encoded once, kept for the next question."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ImageReader = Callable[[bytes], NDArray[np.uint8]]
"""Decodes an image file to uint8 RGB [height, width, 3], upright; raises ImageInvalidError."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image as a model takes it.

    Attributes:
        picture: RGB, squashed to the model's input size.
        features: what the model's image encoder made of it; None when the model does not offer that step.
    """

    picture: Image.Image
    features: Any


def squash(
    pixels: NDArray[np.uint8], size: tuple[int, int] | None, resample: Image.Resampling
) -> Image.Image:
    """Resize uint8 RGB [height, width, 3] to ``size`` (height, width), without padding or cropping."""
    picture = Image.fromarray(pixels)
    if size is None or picture.size == (size[1], size[0]):
        return picture
    return picture.resize((size[1], size[0]), resample)


class ImageMemory:
    """The last few prepared images, by the content of their files. For use by one thread.

    Args:
        prepare: turns the bytes of an image file into a prepared image.
        capacity: how many to keep; 0 keeps none.
    """

    def __init__(self, prepare: Callable[[bytes], PreparedImage], capacity: int) -> None:
        self._prepare = prepare
        self._capacity = capacity
        self._images: OrderedDict[bytes, PreparedImage] = OrderedDict()

    def get(self, data: bytes) -> PreparedImage:
        """Return the prepared image of a file; whatever ``prepare`` raises is raised and not remembered."""
        key = hashlib.sha256(data).digest()
        image = self._images.get(key)
        if image is None:
            image = self._prepare(data)
            self._images[key] = image
        self._images.move_to_end(key)
        while len(self._images) > self._capacity:
            self._images.popitem(last=False)
        return image
