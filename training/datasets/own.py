"""Your own masks: a COCO file, or a folder of images and masks with a list of phrases.

    ROOT/instances.json, images/        COCO: polygons or run lengths; ROOT may be the JSON file
    ROOT/phrases.csv                    image,mask,phrase[,split]: one line for each phrase
    ROOT/images/, ROOT/masks/           what its lines name; no mask: the phrase means nothing in the image

A COCO file can be asked in three ways. ``coco-json``: each category that an image has (or each ``phrase``
that its annotations carry) is a referring expression. ``coco-json-absent``: one category of each image's
absent ones, so that a model learns to answer "nothing". ``coco-json-semantic``: all classes of each image at
once; where things overlap, the smaller one is on top.

None of these has splits, except where ``phrases.csv`` has a column for them: one image in five, by a hash of
its name, is for validation. `label_studio` reads what Label Studio exports.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from text4seg.masks import decode_rle, encode_rle, mask_area
from training.datasets.coco import (
    CocoImage,
    Instances,
    empty_mask,
    read_instances,
    segmentation_rle,
    union,
)
from training.datasets.layout import (
    DatasetError,
    Needed,
    OnSkip,
    check_size,
    image_size,
    in_split,
    require,
    require_files,
)
from training.datasets.sample import Sample, Task

COCO, COCO_ABSENT, COCO_SEMANTIC, FOLDER = "coco-json", "coco-json-absent", "coco-json-semantic", "folder"
SPLITS = ("train", "val", "all")

_COLUMNS = ("image", "mask", "phrase")


def open_coco(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a COCO file, one referring sample for each category, or phrase, of each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    instances, folder, images = _opened(COCO, root, split)
    return _referring(instances, folder, images, split, on_skip)


def open_coco_absent(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a COCO file, one referring sample for each image: a category that is not in it.

    Raises:
        DatasetError: something is missing or broken, or there is only one category, and so no telling
            whether what is not marked is absent.
    """
    instances, folder, images = _opened(COCO_ABSENT, root, split)
    if len(instances.categories) < 2:
        raise DatasetError(f"{instances.path} has fewer than two categories: what is absent cannot be told")
    return _absent(instances, folder, images, split, on_skip)


def open_coco_semantic(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a COCO file, one semantic sample for each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    instances, folder, images = _opened(COCO_SEMANTIC, root, split)
    return _semantic(instances, folder, images, split, on_skip)


def open_folder(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read ``phrases.csv``, one referring sample for each line.

    A mask is a picture of the image's size: black is background, anything else foreground where there are
    but two values, and from 128 on where there are more (as in a JPEG file).

    Raises:
        DatasetError: something is missing or broken.
    """
    table = root / "phrases.csv"
    require(
        FOLDER,
        [Needed(table, "lines image,mask,phrase"), Needed(root / "images", "your images", folder=True)],
    )
    lines = _lines(table)
    require_files(FOLDER, (root / "images" / line["image"] for _, line in lines), "images")
    masks = (root / "masks" / line["mask"] for _, line in lines if line["mask"])
    require_files(FOLDER, masks, "masks")
    chosen = [
        (number, line)
        for number, line in lines
        if (split in ("all", line["split"]) if line["split"] else in_split(split, f"photo {line['image']}"))
    ]
    return _phrases(root, chosen, split)


def _opened(name: str, root: Path, split: str) -> tuple[Instances, Path, list[CocoImage]]:
    file = root if root.suffix == ".json" else root / "instances.json"
    folder = file.parent / "images"
    require(
        name,
        [Needed(file, "COCO annotations"), Needed(folder, "the images that it names", folder=True)],
    )
    instances = read_instances(file)
    images = [image for image in instances.images.values() if in_split(split, f"photo {image.id}")]
    require_files(name, (folder / image.file_name for image in images), "images")
    return instances, folder, images


def _referring(
    instances: Instances, folder: Path, images: list[CocoImage], split: str, on_skip: OnSkip
) -> Iterator[Sample]:
    for image in images:
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for annotation_id in instances.of_image.get(image.id, ()):
            annotation = instances.annotation(annotation_id)
            phrase = str(annotation.get("phrase") or instances.category(annotation))
            parts.setdefault(phrase, []).append(annotation)
        if not parts:
            on_skip(f"{COCO}-{split}-{image.id}", "nothing is marked in the image")
            continue
        check_size(folder / image.file_name, image.size, f"what {instances.path} says", upright=True)
        for phrase, marked in parts.items():
            masks = [
                segmentation_rle(
                    annotation.get("segmentation"),
                    image.size,
                    f"{instances.path}: annotation {annotation['id']}",
                )
                for annotation in marked
            ]
            yield Sample(
                id=f"{COCO}-{split}-{image.id}-{phrase}",
                dataset=COCO,
                split=split,
                image=folder / image.file_name,
                task=Task.REFERRING,
                labels=(phrase,),
                masks=(union(masks),),
            )


def _absent(
    instances: Instances, folder: Path, images: list[CocoImage], split: str, on_skip: OnSkip
) -> Iterator[Sample]:
    for image in images:
        name = f"{COCO_ABSENT}-{split}-{image.id}"
        marked = {
            instances.category(instances.annotation(part)) for part in instances.of_image.get(image.id, ())
        }
        absent = sorted(set(instances.categories.values()) - marked)
        if not absent:
            on_skip(name, "no category is absent from the image")
            continue
        check_size(folder / image.file_name, image.size, f"what {instances.path} says", upright=True)
        yield Sample(
            id=name,
            dataset=COCO_ABSENT,
            split=split,
            image=folder / image.file_name,
            task=Task.REFERRING,
            labels=(random.Random(f"absent {image.id}").choice(absent),),
            masks=(empty_mask(image.size),),
        )


def _semantic(
    instances: Instances, folder: Path, images: list[CocoImage], split: str, on_skip: OnSkip
) -> Iterator[Sample]:
    names = tuple(dict.fromkeys(instances.categories.values()))
    for image in images:
        name = f"{COCO_SEMANTIC}-{split}-{image.id}"
        things: list[tuple[int, NDArray[np.bool_]]] = []
        for part in instances.of_image.get(image.id, ()):
            annotation = instances.annotation(part)
            where = f"{instances.path}: annotation {part}"
            mask = decode_rle(segmentation_rle(annotation.get("segmentation"), image.size, where))
            things.append((names.index(instances.category(annotation)), mask))
        if not things:
            on_skip(name, "nothing is marked in the image")
            continue
        check_size(folder / image.file_name, image.size, f"what {instances.path} says", upright=True)
        canvas = np.full(image.size, -1, dtype=np.int32)
        for category, mask in sorted(things, key=lambda thing: mask_area(thing[1]), reverse=True):
            canvas[mask] = category
        present = [int(category) for category in np.unique(canvas) if category >= 0]
        yield Sample(
            id=name,
            dataset=COCO_SEMANTIC,
            split=split,
            image=folder / image.file_name,
            task=Task.SEMANTIC,
            labels=tuple(names[category] for category in present),
            masks=tuple(encode_rle(canvas == category) for category in present),
            vocabulary=names,
        )


def _lines(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the lines of the list with their numbers, each with columns image, mask, phrase and split."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise DatasetError(f"{table}: the first line must name the columns {', '.join(_COLUMNS)}")
            lines = []
            for row in reader:
                line = {column: (row.get(column) or "").strip() for column in (*_COLUMNS, "split")}
                if not line["image"] or not line["phrase"]:
                    raise DatasetError(f"{table}:{reader.line_num}: image or phrase is empty")
                lines.append((reader.line_num, line))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{table} cannot be read as CSV: {error}") from error
    if not lines:
        raise DatasetError(f"{table} has no lines")
    return lines


def _phrases(root: Path, lines: list[tuple[int, dict[str, str]]], split: str) -> Iterator[Sample]:
    for number, line in lines:
        image = root / "images" / line["image"]
        if line["mask"]:
            file = root / "masks" / line["mask"]
            mask = read_mask(file)
            check_size(image, (mask.shape[0], mask.shape[1]), f"its mask {file}", upright=True)
            rle = encode_rle(mask)
        else:
            rle = empty_mask(image_size(image, upright=True))
        yield Sample(
            id=f"{FOLDER}-{split}-{number}",
            dataset=FOLDER,
            split=split,
            image=image,
            task=Task.REFERRING,
            labels=(line["phrase"],),
            masks=(rle,),
        )


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask from a picture, bool [height, width].

    Raises:
        DatasetError: it cannot be read, is coloured, or holds several small numbers, which may be several
            things: then nobody can tell what is background.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read as an image: {error}") from error
    if values.ndim == 3:
        colours = values[..., : 3 if values.shape[2] > 2 else 1]
        opaque = values.shape[2] in (1, 3) or (values[..., -1] == values[..., -1].max()).all()
        if not opaque or (colours != colours[..., :1]).any():
            raise DatasetError(f"{path} is coloured or transparent: a mask is black and white")
        values = colours[..., 0]
    levels = np.unique(values)
    if len(levels) <= 2 and (levels.size == 1 or levels[0] == 0):
        marked: NDArray[np.bool_] = values != 0
        return marked
    if values.dtype == np.uint8 and levels[-1] >= 128:
        grey: NDArray[np.bool_] = values >= 128
        return grey
    raise DatasetError(
        f"{path} holds the values {levels[:10].tolist()}: a mask is black (0) and white, one for each phrase"
    )
