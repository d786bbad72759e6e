"""COCO's annotation files: segmentations as run lengths, and an index without segmentations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from text4seg.errors import InvalidInputError
from text4seg.masks import Box, Rle, decode_rle, encode_rle
from training.datasets.json_items import read_item, read_items
from training.datasets.layout import DatasetError

Id = int | str


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image of a COCO file, with the size in pixels that its masks have."""

    id: Id
    file_name: str
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Instances:
    """An index of a COCO file: images, categories, and where each annotation stands in the file.

    Attributes:
        path: The file.
        images: By id, in the file's order.
        categories: Name by id, in the file's order.
        places: Begin and end of each annotation in the file, in bytes, by annotation id.
        of_image: Annotation ids by image id.
    """

    path: Path
    images: Mapping[Id, CocoImage]
    categories: Mapping[Id, str]
    places: Mapping[Id, tuple[int, int]]
    of_image: Mapping[Id, Sequence[Id]]

    def annotation(self, annotation_id: Id) -> dict[str, Any]:
        """Read one annotation from the file.

        Raises:
            DatasetError: there is no such annotation.
        """
        place = self.places.get(annotation_id)
        if place is None:
            raise DatasetError(f"{self.path} has no annotation {annotation_id!r}")
        annotation: dict[str, Any] = read_item(self.path, *place)
        return annotation

    def image(self, image_id: Id) -> CocoImage:
        """Return an image.

        Raises:
            DatasetError: there is no such image.
        """
        if image_id not in self.images:
            raise DatasetError(f"{self.path} has no image {image_id!r}")
        return self.images[image_id]

    def category(self, annotation: Mapping[str, Any]) -> str:
        """Return the category name of an annotation.

        Raises:
            DatasetError: its category is unknown.
        """
        category_id: Id = annotation.get("category_id", "")
        if category_id not in self.categories:
            raise DatasetError(
                f"{self.path}: annotation {annotation.get('id')!r} has the unknown category {category_id!r}"
            )
        return self.categories[category_id]


def read_instances(path: Path, wanted: Collection[Id] | None = None) -> Instances:
    """Index a COCO file, holding one annotation at a time.

    Args:
        path: The file, with lists ``images`` and ``annotations``, and perhaps ``categories``.
        wanted: Ids of the annotations to index; all without.

    Raises:
        DatasetError: the file is broken, or lacks a field or a list; the message says which.
    """
    images: dict[Id, CocoImage] = {}
    categories: dict[Id, str] = {}
    places: dict[Id, tuple[int, int]] = {}
    of_image: defaultdict[Id, list[Id]] = defaultdict(list)
    for item in read_items(path, ("images", "annotations", "categories")):
        entry = item.value
        try:
            if item.key == "images":
                size = int(entry["height"]), int(entry["width"])
                images[entry["id"]] = CocoImage(entry["id"], str(entry["file_name"]), *size)
            elif item.key == "categories":
                categories[entry["id"]] = str(entry["name"])
            elif wanted is None or entry["id"] in wanted:
                places[entry["id"]] = item.begin, item.end
                of_image[entry["image_id"]].append(entry["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path}: an entry of {item.key!r} at byte {item.begin} is not as COCO's are: "
                f"{type(error).__name__} {error}"
            ) from error
    if not images:
        raise DatasetError(f"{path} lists no images")
    return Instances(path, images, categories, places, dict(of_image))


def segmentation_rle(segmentation: Any, size: tuple[int, int], where: str) -> Rle:
    """Rasterise a segmentation as the COCO API does.

    Args:
        segmentation: A list of polygons ``[x0, y0, x1, y1, ...]`` (rings of fewer than three points enclose
            nothing and are left out), run lengths, or a list of run lengths, as refCLEF has.
        size: (height, width) of the image.
        where: What it belongs to, for the error.

    Raises:
        DatasetError: it is none of these, is of another size, or encloses nothing that is well-formed.
    """
    try:
        if isinstance(segmentation, Mapping):
            return _checked(Rle.from_coco(segmentation), size, where)
        if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], Mapping):
            return union([_checked(Rle.from_coco(part), size, where) for part in segmentation])
    except InvalidInputError as error:
        raise DatasetError(f"{where}: the segmentation's {error}") from error
    if not isinstance(segmentation, list):
        raise DatasetError(f"{where}: the segmentation is neither polygons nor run lengths")
    rings = [_ring(ring, size, where) for ring in segmentation]
    drawn = [ring for ring in rings if len(ring) >= 6]
    if not drawn:
        raise DatasetError(f"{where}: the segmentation has no polygon with three points")
    height, width = size
    merged = coco_mask.merge(coco_mask.frPyObjects(drawn, height, width))
    return Rle(size, merged["counts"].decode("ascii"))


def union(masks: Sequence[Rle]) -> Rle:
    """Return the pixels of any of some masks of one size, at least one."""
    if len(masks) == 1:
        return masks[0]
    merged = np.logical_or.reduce([decode_rle(mask) for mask in masks])
    return encode_rle(merged)


def empty_mask(size: tuple[int, int]) -> Rle:
    """Return a mask (height, width) without a pixel."""
    return encode_rle(np.zeros(size, dtype=np.bool_))


def box_of_xywh(values: Any, size: tuple[int, int], where: str) -> Box:
    """Return COCO's box ``[x, y, width, height]`` as the whole pixels that it touches, cut at the image.

    Raises:
        DatasetError: it is not four numbers, or does not touch the image.
    """
    try:
        left, top, width, height = (float(value) for value in values)
        box = Box(
            max(0, math.floor(left)),
            max(0, math.floor(top)),
            min(size[1], math.ceil(left + width)),
            min(size[0], math.ceil(top + height)),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: the box {values!r} is not [x, y, width, height]") from error
    if box.width < 1 or box.height < 1:
        raise DatasetError(f"{where}: the box {values!r} holds no pixel of the image")
    return box


def _checked(mask: Rle, size: tuple[int, int], where: str) -> Rle:
    if mask.size != size:
        raise DatasetError(
            f"{where}: the mask is {mask.size[1]}x{mask.size[0]}, but its image is {size[1]}x{size[0]}"
        )
    decode_rle(mask)  # so that broken run lengths are told here, and not in the middle of a training
    return mask


def _ring(ring: Any, size: tuple[int, int], where: str) -> list[float]:
    try:
        values = np.asarray(ring, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: a polygon must be a list of numbers") from error
    if values.ndim != 1 or values.size % 2:
        raise DatasetError(f"{where}: a polygon must be a list x0, y0, x1, y1, ...")
    if not (np.abs(values) <= 4 * max(size)).all():  # the COCO API takes memory by the length of an edge
        raise DatasetError(f"{where}: a polygon leaves the image by far")
    flat: list[float] = values.tolist()
    return flat
