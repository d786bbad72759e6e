"""Masks for things of which only the box is annotated: ``python -m training.nano.boxes DIR``.

Reads ``DIR/instances.json`` in the COCO layout and gives each annotation that has a ``bbox`` but no
``segmentation`` a mask by GrabCut (Rother et al., 2004) within its box. These masks are guesses, good enough
to learn names from; nothing should be measured against them. The file as it was is kept as ``boxes.json``.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from text4seg.masks import encode_rle
from training.nano.photos import instance_mask, read_image, read_instances
from training.nano.scenes import resized

SIDE = 256
"""Longest side in pixels of the image in which GrabCut works."""
ROUNDS = 2
AROUND = 0.3
"""How much of its surroundings is compared with a box, in sides of the box."""
LEAST_SIDE = 12
"""A box with a shorter side, in pixels of the smaller image, is filled with an ellipse."""
LEAST_SHARE, MOST_SHARE = 0.25, 0.97
"""A cut that leaves less or more of its box is not believed, and an ellipse takes its place."""


def mask_in_box(image: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.bool_]:
    """Return what stands out from the surroundings of a box, or an ellipse where nothing clearly does.

    Args:
        image: uint8 RGB [height, width, 3].
        box: x, y, width and height in pixels, as COCO has them.

    Returns:
        bool [height, width], false outside of the box.
    """
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = resized(image, size, cv2.INTER_AREA)
    corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) * scale
    left, top, right, bottom = np.clip(np.round(corners).astype(int), 0, [*size, *size])
    found = np.zeros(small.shape[:2], np.uint8)
    inside = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
    large = min(right - left, bottom - top) >= LEAST_SIDE
    cut = grab_cut(small, (left, top, right, bottom)) if large else None
    found[inside] = ellipse(*found[inside].shape) if cut is None else cut
    return resized(found, (width, height), cv2.INTER_NEAREST).astype(bool)


def grab_cut(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.bool_] | None:
    """Return which pixels of a box (left, top, right, bottom) have other colours than lie around it.

    None: the cut is not to be believed, or nothing lies around the box.
    """
    left, top, right, bottom = box
    across, down = round((right - left) * AROUND), round((bottom - top) * AROUND)
    x0, y0 = max(0, left - across), max(0, top - down)
    window = np.ascontiguousarray(image[y0 : bottom + down, x0 : right + across])
    inside = np.s_[top - y0 : bottom - y0, left - x0 : right - x0]
    trimap = np.full(window.shape[:2], cv2.GC_BGD, np.uint8)
    trimap[inside] = cv2.GC_PR_FGD
    if (trimap == cv2.GC_BGD).sum() < trimap.size // 20:
        return None
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(window, trimap, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut = trimap[inside] == cv2.GC_PR_FGD
    return cut if LEAST_SHARE <= cut.mean() <= MOST_SHARE else None


def ellipse(height: int, width: int) -> NDArray[np.bool_]:
    """Return the ellipse that touches the sides of a box, bool [height, width]."""
    rows = (np.arange(height) + 0.5) * 2 / height - 1
    columns = (np.arange(width) + 0.5) * 2 / width - 1
    return np.asarray(rows[:, None] ** 2 + columns**2 <= 1)


def with_masks(data: dict[str, Any], images: Path) -> dict[str, Any]:
    """Return a COCO data set in which every annotation has a segmentation.

    Raises:
        FileNotFoundError: when an image is missing; the message names it.
    """
    by_image: dict[int, list[Any]] = {}
    for annotation in data["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for entry in tqdm(data["images"], unit="image"):
        there = by_image.get(entry["id"], [])
        lacking = [annotation for annotation in there if not annotation.get("segmentation")]
        if not lacking:
            continue
        image = read_image(images / entry["file_name"])
        taken = np.zeros(image.shape[:2], bool)
        for annotation in there:
            if annotation.get("segmentation"):
                taken |= instance_mask(annotation["segmentation"], *taken.shape)
        # What is smaller is taken to lie in front.
        for annotation in sorted(lacking, key=lambda one: float(np.prod(one["bbox"][2:]))):
            mask = mask_in_box(image, annotation["bbox"]) & ~taken
            taken |= mask
            annotation["segmentation"] = encode_rle(mask).to_coco()
    return data


def main(arguments: Sequence[str] | None = None) -> None:
    """Complete a data set in place.

    Args:
        arguments: What follows the program's name; None: of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m training.nano.boxes", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds instances.json and images/")
    folder: Path = parser.parse_args(arguments).folder
    file, before = folder / "instances.json", folder / "boxes.json"
    try:
        data = with_masks(read_instances(before if before.exists() else file), folder / "images")
    except FileNotFoundError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    if not before.exists():
        file.rename(before)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(data))
    partial.replace(file)


if __name__ == "__main__":
    main()
