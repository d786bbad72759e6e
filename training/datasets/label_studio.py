"""Label Studio's JSON export: brush strokes and polygons.

    ROOT is the exported file, or a folder with exactly one JSON file
    images/ beside the file holds the images, under the names that the export has for them

A region's phrase is the text that a per-region ``TextArea`` has for it, otherwise its label. Regions of an
image with one phrase are one mask. Of several people's annotations of a task the ground truth counts,
otherwise the first that was not cancelled. What is no mask (boxes, ellipses, key points) is left out and
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from text4seg.errors import InvalidInputError
from text4seg.masks import Rle, encode_rle, mask_of_polygons
from training.datasets.brush import decode_brush
from training.datasets.coco import union
from training.datasets.json_items import TOP, read_items
from training.datasets.layout import (
    DatasetError,
    MissingDataError,
    Needed,
    OnSkip,
    check_size,
    in_split,
    require,
    require_files,
)
from training.datasets.sample import Sample, Task

NAME = "label-studio"
SPLITS = ("train", "val", "all")

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_PREFIX = 8  # uploads are named with eight hexadecimal digits and a dash in front


def open_label_studio(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read an export, one referring sample for each phrase of each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    file = _export(root)
    images = file.parent / "images"
    require(
        NAME,
        [Needed(file, "the JSON export"), Needed(images, "the images that it names", folder=True)],
    )
    tasks = (task for task in _tasks(file) if _chosen(task, split))
    require_files(NAME, (_image_file(task, file, images) for task in tasks), "images")
    return _samples(file, images, split, on_skip)


def _export(root: Path) -> Path:
    if not root.is_dir():
        return root
    exports = sorted(root.glob("*.json"))
    if len(exports) != 1:
        raise MissingDataError(
            f"{NAME}: {root} holds {len(exports)} JSON files: give the export itself, with images/ beside it"
        )
    return exports[0]


def _tasks(file: Path) -> Iterator[Mapping[str, Any]]:
    for item in read_items(file, (TOP,)):
        if not isinstance(item.value, Mapping) or not isinstance(item.value.get("data"), Mapping):
            raise DatasetError(f"{file}: the task at byte {item.begin} has no data")
        yield item.value


def _chosen(task: Mapping[str, Any], split: str) -> bool:
    return in_split(split, f"photo {task.get('id')}")


def _address(task: Mapping[str, Any], file: Path) -> str:
    data = task["data"]
    if isinstance(data.get("image"), str):
        return str(data["image"])
    pictures = [
        value
        for value in data.values()
        if isinstance(value, str) and _path_of(value).suffix.lower() in _SUFFIXES
    ]
    if len(pictures) != 1:
        raise DatasetError(f"{file}: task {task.get('id')} names {len(pictures)} images in its data")
    return str(pictures[0])


def _path_of(address: str) -> PurePosixPath:
    """Return the path in an address; of local storage, ``/data/local-files/?d=PATH``, that of the file."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return PurePosixPath(local[0] if local else unquote(parts.path))


def _image_file(task: Mapping[str, Any], file: Path, images: Path) -> Path:
    path = _path_of(_address(task, file))
    name = path.name
    names = [name]
    if name[_PREFIX : _PREFIX + 1] == "-":
        names.append(name[_PREFIX + 1 :])
    inside = [part for part in path.parts if part not in ("/", "..")]
    places = [images / name for name in names] + [images.joinpath(*inside)]
    return next((place for place in places if place.is_file()), places[0])


def _samples(file: Path, images: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    for task in _tasks(file):
        if not _chosen(task, split):
            continue
        name = f"{NAME}-{split}-{task.get('id')}"
        annotation = _annotation(task, name, on_skip)
        if annotation is None:
            continue
        path = _image_file(task, file, images)
        masks: dict[str, list[Rle]] = {}
        for phrase, mask in _regions(annotation, path, name, on_skip):
            masks.setdefault(phrase, []).append(mask)
        for phrase, parts in masks.items():
            yield Sample(
                id=f"{name}-{phrase}",
                dataset=NAME,
                split=split,
                image=path,
                task=Task.REFERRING,
                labels=(phrase,),
                masks=(union(parts),),
            )


def _annotation(task: Mapping[str, Any], name: str, on_skip: OnSkip) -> Mapping[str, Any] | None:
    made = [
        annotation
        for annotation in task.get("annotations") or ()
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled")
    ]
    if not made:
        on_skip(name, "a task without an annotation")
        return None
    for _ in made[1:]:
        on_skip(name, "another annotation of the same task")
    return next((annotation for annotation in made if annotation.get("ground_truth")), made[0])


def _regions(
    annotation: Mapping[str, Any], image: Path, name: str, on_skip: OnSkip
) -> Iterator[tuple[str, Rle]]:
    results = [result for result in annotation.get("result") or () if isinstance(result, Mapping)]
    texts: dict[Any, str] = {}
    for result in results:
        value = result.get("value")
        if result.get("type") == "textarea" and isinstance(value, Mapping) and value.get("text"):
            text = value["text"]
            texts[result.get("id")] = str(text[0] if isinstance(text, list) else text)
    sized = False
    for result in results:
        value = result.get("value")
        kind = str(result.get("type"))
        if kind == "textarea" or not isinstance(value, Mapping) or "original_width" not in result:
            continue
        where = f"{name}: region {result.get('id')!r}"
        if "rle" not in value and "points" not in value:
            on_skip(where, "a region that is no mask")
            continue
        if result.get("image_rotation"):
            on_skip(where, "a region drawn on a rotated image")
            continue
        phrase = texts.get(result.get("id")) or _label(value, kind)
        if phrase is None:
            on_skip(where, "a region without a label or text")
            continue
        size = _size(result, where)
        if not sized:
            check_size(image, size, f"what {where} says", upright=True)
            sized = True
        yield phrase, _mask(value, size, where)


def _label(value: Mapping[str, Any], kind: str) -> str | None:
    for key in (kind, "brushlabels", "polygonlabels", "labels"):
        names = value.get(key)
        if isinstance(names, list) and names:
            return str(names[0])
    return None


def _size(result: Mapping[str, Any], where: str) -> tuple[int, int]:
    try:
        return int(result["original_height"]), int(result["original_width"])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where} does not say how large its image is") from error


def _mask(value: Mapping[str, Any], size: tuple[int, int], where: str) -> Rle:
    if "rle" in value:
        return encode_rle(decode_brush(value["rle"], size, where))
    try:
        points = np.asarray(value["points"], dtype=np.float64) * (size[1] / 100, size[0] / 100)
        return encode_rle(mask_of_polygons([points], size))
    except (TypeError, ValueError, InvalidInputError) as error:
        raise DatasetError(f"{where}: the polygon is broken: {error}") from error
