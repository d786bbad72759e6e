"""Photographs with instance masks in the COCO layout: ``instances.json`` and ``images/``."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph and what is marked in it.

    Attributes:
        image_id: The data set's id.
        image: uint8 RGB [height, width, 3].
        names: Category name of each instance.
        masks: Mask of each instance, bool [height, width].
        complete: Whether every common thing is annotated, so that a name that does not appear is absent.
    """

    image_id: int
    image: NDArray[np.uint8]
    names: tuple[str, ...]
    masks: tuple[NDArray[np.bool_], ...]
    complete: bool


def instance_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Rasterise a COCO segmentation (polygons or run lengths) to bool [height, width]."""
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return np.asarray(coco_mask.decode(encoded), dtype=bool)


def load_photos(folder: Path, *, complete: bool = True) -> tuple[Photo, ...]:
    """Read a data set, in the order of its ids.

    Args:
        folder: Holds ``instances.json`` and ``images/``.
        complete: Whether every common thing is annotated; never true of a data set of a single category.

    Raises:
        FileNotFoundError: when ``instances.json`` or an image is missing; the message names the file.
        ValueError: when an image is not of the size that ``instances.json`` says, for its masks would not
            fit.
    """
    data = read_instances(folder / "instances.json")
    categories = {category["id"]: category["name"] for category in data["categories"]}
    by_image: dict[int, list[Any]] = defaultdict(list)
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    photos = []
    for entry in sorted(data["images"], key=lambda entry: int(entry["id"])):
        image = read_image(folder / "images" / entry["file_name"])
        height, width = image.shape[:2]
        said = entry.get("height", height), entry.get("width", width)
        if said != (height, width):
            raise ValueError(
                f"{entry['file_name']} is {width}x{height}, but instances.json says {said[1]}x{said[0]}"
            )
        marked = by_image[entry["id"]]
        photos.append(
            Photo(
                image_id=entry["id"],
                image=image,
                names=tuple(categories[annotation["category_id"]] for annotation in marked),
                masks=tuple(
                    instance_mask(annotation["segmentation"], height, width) for annotation in marked
                ),
                complete=complete and len(categories) > 1,
            )
        )
    return tuple(photos)


def load_categories(folder: Path) -> list[str]:
    """Return the names of a data set's categories.

    Raises:
        FileNotFoundError: when ``instances.json`` is missing.
    """
    return [category["name"] for category in read_instances(folder / "instances.json")["categories"]]


def load_captions(folder: Path) -> dict[int, list[str]]:
    """Return the captions of each image id; empty when the data set has no ``captions.json``."""
    file = folder / "captions.json"
    captions: dict[int, list[str]] = defaultdict(list)
    if file.exists():
        for annotation in json.loads(file.read_text())["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"].strip().rstrip(".").lower())
    return dict(captions)


def held_out(key: str, one_in: int) -> bool:
    """Decide by hash whether an item is kept for evaluation: stable whatever else is in the data set."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % one_in == 0


def read_instances(file: Path) -> Any:
    """Read what COCO's annotation file says."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: photographs come as instances.json beside images/")
    return json.loads(file.read_text())


def read_image(file: Path) -> NDArray[np.uint8]:
    """Read a picture as uint8 RGB [height, width, 3]."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, which instances.json names")
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))
