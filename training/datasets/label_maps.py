"""Semantic data sets: images beside PNG files that hold a class number for every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from text4seg.masks import encode_rle
from training.datasets.layout import DatasetError, check_size, require_files
from training.datasets.sample import Sample, Task

MAX_VALUE = 255


def class_names(text: str, *, first: int) -> dict[int, str]:
    """Number names that are separated by commas, in any number of lines, from `first` on."""
    return dict(enumerate((" ".join(name.split()) for name in text.split(",")), start=first))


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Read a map of class numbers, uint8 [height, width]; of a palette image, the palette's indices.

    Raises:
        DatasetError: the file cannot be read, or has more than one channel.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read as an image: {error}") from error
    if values.ndim != 2 or values.size == 0 or int(values.min()) < 0 or int(values.max()) > MAX_VALUE:
        raise DatasetError(f"{path} is not a map of class numbers: one channel of 0 to {MAX_VALUE}")
    return values.astype(np.uint8)


def semantic_sample(
    *,
    dataset: str,
    split: str,
    key: str,
    image: Path,
    label_map: Path,
    classes: Mapping[int, str],
    ignored: frozenset[int],
) -> Sample:
    """Read one image's classes.

    Args:
        dataset: Name of the data set.
        split: Name of the split.
        key: The image's name in the data set.
        image: The image file.
        label_map: The PNG file with its class numbers.
        classes: Class name by number, in the data set's order.
        ignored: Numbers of pixels that nobody judges.

    Raises:
        DatasetError: the map cannot be read, does not fit the image, or holds a number that is no class.
    """
    values = read_label_map(label_map)
    check_size(image, (values.shape[0], values.shape[1]), f"its label map {label_map}")
    present = [int(value) for value in np.unique(values)]
    unknown = [value for value in present if value not in classes and value not in ignored]
    if unknown:
        raise DatasetError(f"{label_map} holds the unknown categories {unknown}")
    named = [value for value in classes if value in present]
    void = np.isin(values, list(ignored))
    return Sample(
        id=f"{dataset}-{split}-{key}",
        dataset=dataset,
        split=split,
        image=image,
        task=Task.SEMANTIC,
        labels=tuple(classes[value] for value in named),
        masks=tuple(encode_rle(values == value) for value in named),
        void=encode_rle(void) if void.any() else None,
        vocabulary=tuple(classes.values()),
    )


def semantic_samples(
    *,
    dataset: str,
    split: str,
    keys: Sequence[str],
    images: Path,
    label_maps: Path,
    classes: Mapping[int, str],
    ignored: frozenset[int],
) -> Iterator[Sample]:
    """Read images ``images/KEY.jpg`` with maps ``label_maps/KEY.png`` one by one; see `semantic_sample`."""
    for key in keys:
        yield semantic_sample(
            dataset=dataset,
            split=split,
            key=key,
            image=images / f"{key}.jpg",
            label_map=label_maps / f"{key}.png",
            classes=classes,
            ignored=ignored,
        )


def paired_keys(dataset: str, images: Path, label_maps: Path, *, leave_out: str = "") -> list[str]:
    """Return the names, without suffix, of the images of one folder and of the maps of another.

    Args:
        dataset: Name of the data set, for the error.
        images: Folder of ``.jpg`` files.
        label_maps: Folder of ``.png`` files.
        leave_out: Maps whose name ends so are no maps of this data set.

    Raises:
        MissingDataError: an image lacks its map, or a map its image; the message names each.
    """
    pictures = {path.stem for path in images.glob("*.jpg")}
    maps = {
        path.stem for path in label_maps.glob("*.png") if not (leave_out and path.stem.endswith(leave_out))
    }
    require_pairs(dataset, sorted(pictures | maps), images, label_maps)
    if not pictures:
        raise DatasetError(f"{dataset}: {images} and {label_maps} hold no images")
    return sorted(pictures)


def require_pairs(dataset: str, keys: Sequence[str], images: Path, label_maps: Path) -> None:
    """Check that each name has its image and its map.

    Raises:
        MissingDataError: some are missing; the message names them.
    """
    pairs = (path for key in keys for path in (images / f"{key}.jpg", label_maps / f"{key}.png"))
    require_files(dataset, pairs, "images and label maps")


def listed_keys(dataset: str, path: Path, images: Path, label_maps: Path) -> list[str]:
    """Return the image names that a split's list has, one on each line.

    Raises:
        DatasetError: the list is empty or cannot be read as text.
        MissingDataError: an image or a map is missing; the message names each.
    """
    try:
        keys = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not text") from error
    if not keys:
        raise DatasetError(f"{path} lists no images")
    require_pairs(dataset, keys, images, label_maps)
    return keys
