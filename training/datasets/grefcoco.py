"""gRefCOCO: expressions that mean nothing, one thing or many.

ROOT/grefcoco/grefs(unc).json, instances.json
ROOT/images/train2014/                     COCO's photographs; REFER's place for them is looked at too
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.json_items import TOP, read_items
from training.datasets.layout import COCO_PAGE, DatasetError, Needed, OnSkip, require
from training.datasets.refer import coco_images, expressions, reference_of
from training.datasets.sample import Sample

NAME = "grefcoco"
SPLITS = ("train", "val", "testA", "testB")
PAGE = "https://github.com/henghuiding/gRefCOCO"


def open_grefcoco(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split: one sample for each expression. One that means nothing has an empty mask.

    As in the published loader, crowd annotations are left out of a mask.

    Raises:
        DatasetError: something is missing or broken.
    """
    folder = root / NAME
    images = coco_images(root)
    if not images.is_dir():
        images = root / "images/train2014"
    refs_file, instances_file = folder / "grefs(unc).json", folder / "instances.json"
    require(
        NAME,
        [
            Needed(refs_file, "expressions", PAGE),
            Needed(instances_file, "masks", PAGE),
            Needed(images, "COCO train2014 photographs", COCO_PAGE, folder=True),
        ],
    )
    references = [
        reference_of(item.value, f"{refs_file}: the entry at byte {item.begin}")
        for item in read_items(refs_file, (TOP,))
    ]
    chosen = [reference for reference in references if reference.split == split]
    if not chosen:
        raise DatasetError(f"{refs_file} has no expressions of split {split!r}")
    return expressions(NAME, split, chosen, instances_file, images, COCO_PAGE, crowds=False)
