"""Which image files a command line means, and where the results of each go."""

import glob
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files that count as images when a folder is searched (lower case)."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images that one argument names.

    Attributes:
        paths: the files, sorted.
        root: folder that output names are relative to.
        several: whether the argument was a folder or a pattern, however many files it matched.
    """

    paths: tuple[Path, ...]
    root: Path
    several: bool


def find_images(argument: str, exclude: Path | None = None) -> ImageSet:
    """Find the images that a file name, folder or glob pattern names.

    An existing file is taken as it is, even if its name looks like a pattern. A folder is searched with its
    sub-folders for files with an image suffix; hidden files and folders are skipped. A pattern (``*``,
    ``?``, ``[...]``, ``**``) takes every file that it matches, whatever its suffix.

    Args:
        argument: as typed.
        exclude: folder whose files are left out: results of an earlier run are no input.

    Raises:
        FileNotFoundError: there is no such file, or no image in the folder, or nothing matches.
    """
    path = Path(argument).expanduser()
    if path.is_file():
        return ImageSet((path,), path.parent, several=False)
    if path.is_dir():
        found = _excluding(
            (
                child
                for child in path.rglob("*")
                if child.suffix.lower() in IMAGE_SUFFIXES
                and not any(part.startswith(".") for part in child.relative_to(path).parts)
            ),
            exclude,
        )
        if not found:
            raise FileNotFoundError(f"{argument}: no images in this folder")
        return ImageSet(found, path, several=True)
    if glob.has_magic(argument):
        found = _excluding(map(Path, glob.iglob(str(path), recursive=True)), exclude)
        if not found:
            raise FileNotFoundError(f"{argument}: no file matches")
        return ImageSet(found, Path(os.path.commonpath([match.parent for match in found])), several=True)
    raise FileNotFoundError(f"{argument}: no such file or folder")


def output_paths(images: ImageSet, folder: Path) -> tuple[Path, ...]:
    """Where the results of each image go: one path per image, without suffix, inside `folder`.

    Sub-folders are kept. Images that differ in their suffix only (a.jpg, a.png) keep it in the name.
    """
    relative = [path.relative_to(images.root) for path in images.paths]
    count = Counter(path.with_suffix("") for path in relative)
    stems = [stem if count[stem] == 1 else path for path in relative for stem in (path.with_suffix(""),)]
    # A kept suffix can meet another name (a.jpg, a.png and a.jpg.png): then all of them are kept.
    names = stems if len(set(stems)) == len(stems) else relative
    return tuple(folder / name for name in names)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB array [height, width, 3] in the format of the path's suffix; parents are made.

    The file appears complete or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as temporary:
        Image.fromarray(picture).save(temporary)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write an object as indented JSON; parents are made. The file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".text4seg-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def _excluding(paths: Iterable[Path], exclude: Path | None) -> tuple[Path, ...]:
    outside = exclude.resolve() if exclude else None
    return tuple(
        sorted(
            path
            for path in paths
            if path.is_file() and not (outside and path.resolve().is_relative_to(outside))
        )
    )
