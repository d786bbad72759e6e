"""gRefCOCO: expressions that mean nothing, one thing or many.

ROOT/grefcoco/grefs(unc).json, instances.json
ROOT/images/train2014/                     COCO's photographs; REFER's place for them is looked at too
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets.coco import (
    Id,
    Instances,
    box_of_xywh,
    empty_mask,
    read_instances,
    segmentation_rle,
    union,
)
from training.datasets.json_items import TOP, read_items
from training.datasets.layout import (
    COCO_PAGE,
    DatasetError,
    Needed,
    OnSkip,
    check_size,
    require,
    require_files,
)
from training.datasets.refer import coco_images
from training.datasets.sample import Sample, Task

NAME = "grefcoco"
SPLITS = ("train", "val", "testA", "testB")
PAGE = "https://github.com/henghuiding/gRefCOCO"

_KEYS = ("ref_id", "ann_id", "image_id", "split", "sentences")
_NOTHING = -1


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
    refs = []
    for item in read_items(refs_file, (TOP,)):
        ref = item.value
        if not isinstance(ref, Mapping) or not set(_KEYS) <= set(ref):
            raise DatasetError(f"{refs_file}: the entry at byte {item.begin} lacks one of {', '.join(_KEYS)}")
        if ref["split"] == split:
            refs.append({key: ref[key] for key in _KEYS})
    if not refs:
        raise DatasetError(f"{refs_file} has no expressions of split {split!r}")
    instances = read_instances(instances_file, {target for ref in refs for target in _targets(ref)})
    names = (instances.image(ref["image_id"]).file_name for ref in refs)
    require_files(NAME, (images / name for name in names), "photographs", COCO_PAGE)
    return _samples(split, refs, instances, images)


def _targets(ref: Mapping[str, Any]) -> Sequence[Id]:
    listed = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    return [target for target in listed if target != _NOTHING]


def _samples(
    split: str, refs: Sequence[Mapping[str, Any]], instances: Instances, images: Path
) -> Iterator[Sample]:
    for ref in refs:
        where = f"{NAME} expression {ref['ref_id']}"
        image = instances.image(ref["image_id"])
        path = images / image.file_name
        check_size(path, image.size, f"what {instances.path} says")
        targets = [instances.annotation(target) for target in _targets(ref)]
        parts = [
            segmentation_rle(target.get("segmentation"), image.size, where)
            for target in targets
            if not target.get("iscrowd")
        ]
        mask = union(parts) if parts else empty_mask(image.size)
        single = len(parts) == 1 and len(targets) == 1 and "bbox" in targets[0]
        box = box_of_xywh(targets[0]["bbox"], image.size, where) if single else None
        for sentence in ref["sentences"]:
            yield Sample(
                id=f"{NAME}-{split}-{ref['ref_id']}-{sentence['sent_id']}",
                dataset=NAME,
                split=split,
                image=path,
                task=Task.REFERRING,
                labels=(str(sentence["sent"]),),
                masks=(mask,),
                box=box,
            )
