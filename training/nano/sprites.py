"""Sprites with names: Fluent emoji pictures (MIT), chosen and named in ``sprites.tsv``."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_NAMES = Path(__file__).with_name("sprites.tsv")


@dataclass(frozen=True, slots=True)
class Sprite:
    """One picture and its name.

    Attributes:
        noun: Lower-case name, for example "red apple". Several sprites may share one.
        file: Where the picture is.
    """

    noun: str
    file: Path

    def load(self) -> NDArray[np.uint8]:
        """Return the picture, uint8 RGBA [height, width, 4], cropped to what is visible."""
        return _load(self.file)


@cache
def _load(file: Path) -> NDArray[np.uint8]:
    picture = Image.open(file).convert("RGBA")
    visible = picture.getchannel("A").point(lambda alpha: 255 if alpha > 40 else 0).getbbox()
    return np.asarray(picture.crop(visible))


def load_sprites(folder: Path) -> tuple[Sprite, ...]:
    """Return the named sprites of a folder of files such as ``1f436.webp``, in a fixed order.

    Raises:
        FileNotFoundError: when a picture is missing; the message names it.
    """
    sprites = []
    for line in _NAMES.read_text().splitlines():
        stem, noun = line.split("\t")
        file = folder / f"{stem}.webp"
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing, which {_NAMES.name} names {noun!r}")
        sprites.append(Sprite(noun, file))
    return tuple(sprites)
