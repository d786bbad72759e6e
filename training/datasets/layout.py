"""What is there on disk and what is missing: one clear error that names everything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

OnSkip = Callable[[str, str], None]
"""Told the id of what is left out, and why."""

COCO_PAGE = "https://cocodataset.org/#download"

_NAMED = 20
_UPRIGHT = (None, 1)
_ORIENTATION = 0x0112


class DatasetError(ValueError):
    """A data set on disk is not as it should be; the message names the file."""


class MissingDataError(DatasetError):
    """Files or folders of a data set are not where they are expected."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A file or folder of a data set's layout.

    Attributes:
        path: Where it is expected.
        what: What it holds, in a few words.
        page: The public page to get it from; empty for what people make themselves.
        folder: Whether it is a folder.
    """

    path: Path
    what: str
    page: str = ""
    folder: bool = False

    @property
    def there(self) -> bool:
        """Whether it exists, as the kind of thing that it should be."""
        return self.path.is_dir() if self.folder else self.path.is_file()


def require(dataset: str, needed: Sequence[Needed]) -> None:
    """Check that all of a layout is there.

    Raises:
        MissingDataError: something is not; the message has one line for each missing file or folder.
    """
    missing = [need for need in needed if not need.there]
    if not missing:
        return
    lines = [f"{dataset}: {len(missing)} of {len(needed)} files and folders are missing:"]
    for need in missing:
        kind = "folder" if need.folder else "file"
        source = f"; get it from {need.page}" if need.page else ""
        lines.append(f"  {kind} {need.path} ({need.what}){source}")
    raise MissingDataError("\n".join(lines))


def require_files(dataset: str, paths: Iterable[Path], what: str, page: str = "") -> None:
    """Check that many files of one kind are there, each path once.

    Raises:
        MissingDataError: some are not; the message names them, the first twenty by name.
    """
    seen: set[str] = set()  # as text: there may be hundreds of thousands, and a path weighs more
    missing: list[str] = []
    for path in paths:
        name = str(path)
        if name not in seen:
            seen.add(name)
            if not path.is_file():
                missing.append(name)
    if not missing:
        return
    lines = [f"{dataset}: {len(missing)} of {len(seen)} {what} are missing:"]
    lines += [f"  file {path}" for path in missing[:_NAMED]]
    if len(missing) > _NAMED:
        lines.append(f"  and {len(missing) - _NAMED} more")
    if page:
        lines.append(f"  get them from {page}")
    raise MissingDataError("\n".join(lines))


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Return an image's (height, width) as stored, reading its header only.

    Args:
        path: The image file.
        upright: Also refuse an image that asks to be shown rotated or mirrored: people who marked it
            saw it turned, so their masks would not lie on the pixels as stored.

    Raises:
        DatasetError: no image can be read there, or it is not upright.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = upright and picture.getexif().get(_ORIENTATION) not in _UPRIGHT
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read as an image: {error}") from error
    if turned:
        raise DatasetError(f"{path} is stored rotated (EXIF orientation): save it upright first")
    return height, width


def check_size(image: Path, size: tuple[int, int], what: str, *, upright: bool = False) -> None:
    """Check that a mask fits its image.

    Raises:
        DatasetError: the image cannot be read, or has another size than `size`, (height, width).
    """
    height, width = image_size(image, upright=upright)
    if (height, width) != size:
        raise DatasetError(f"{image} is {width}x{height}, but {what} is {size[1]}x{size[0]}")


def in_split(split: str, key: str, one_in: int = 5) -> bool:
    """Decide by hash whether an item of a data set without splits of its own is in "train", "val" or "all".

    One item in `one_in` is for validation, whatever else is in the data set. A photograph is decided as the
    recipes of the bundled model and of the light refiner decide when `key` is ``photo ID``.
    """
    held = int(hashlib.sha256(key.encode()).hexdigest(), 16) % one_in == 0
    return split == "all" or held == (split == "val")
