"""refCLEF, refCOCO, refCOCO+ and refCOCOg in the layout of the REFER interface.

    ROOT/refcoco/refs(unc).p, instances.json          the same for refcoco+, refcocog, refclef
    ROOT/images/mscoco/images/train2014/              COCO's photographs, for all but refCLEF
    ROOT/images/saiapr_tc-12/                         refCLEF's photographs

``refs(...).p`` are pickles of plain lists and dictionaries; they are read by an unpickler that builds nothing
else, so that a file from a stranger cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.datasets.coco import Instances, box_of_xywh, read_instances, segmentation_rle
from training.datasets.layout import (
    COCO_PAGE,
    DatasetError,
    Needed,
    OnSkip,
    check_size,
    require,
    require_files,
)
from training.datasets.sample import Sample, Task

REFER_PAGE = "https://github.com/lichengunc/refer"


@dataclass(frozen=True, slots=True)
class ReferSet:
    """A data set of the REFER interface under one way of splitting it.

    Attributes:
        name: As it is called here.
        folder: Its folder under the root.
        split_by: Who split it, as in the file's name.
        splits: Its splits.
    """

    name: str
    folder: str
    split_by: str
    splits: tuple[str, ...]


REFER_SETS = (
    ReferSet("refclef", "refclef", "unc", ("train", "val", "testA", "testB", "testC")),
    ReferSet("refclef-berkeley", "refclef", "berkeley", ("train", "val", "test")),
    ReferSet("refcoco", "refcoco", "unc", ("train", "val", "testA", "testB")),
    ReferSet("refcoco-google", "refcoco", "google", ("train", "val", "test")),
    ReferSet("refcoco+", "refcoco+", "unc", ("train", "val", "testA", "testB")),
    ReferSet("refcocog", "refcocog", "umd", ("train", "val", "test")),
    ReferSet("refcocog-google", "refcocog", "google", ("train", "val")),
)


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dictionaries, numbers and text, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain data is read")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data, as Python 2 or 3 wrote it. No code in it is run.

    Raises:
        DatasetError: it is broken, or asks for anything but lists, dictionaries, numbers and text.
    """
    for encoding in ("utf-8", "latin-1"):
        try:
            with path.open("rb") as file:
                return _PlainUnpickler(file, encoding=encoding).load()
        except UnicodeDecodeError:
            continue
        except Exception as error:  # a broken pickle fails in any way
            raise DatasetError(f"{path} cannot be unpickled: {error}") from error
    raise DatasetError(f"{path} cannot be unpickled: its text is in no known encoding")


def coco_images(root: Path) -> Path:
    """Return the folder of COCO's train2014: REFER's place, or one of the shorter ones that people use."""
    places = [root / "images/mscoco/images/train2014", root / "images/train2014", root / "train2014"]
    return next((place for place in places if place.is_dir()), places[0])


def open_refer(data: ReferSet, root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split: one sample for each expression.

    Raises:
        DatasetError: something is missing or broken; at once where it can be seen at once, otherwise when
            the sample is reached.
    """
    folder = root / data.folder
    refs_file = folder / f"refs({data.split_by}).p"
    if data.folder == "refclef":
        images = root / "images/saiapr_tc-12"
        photographs = Needed(images, "SAIAPR TC-12 photographs", REFER_PAGE, folder=True)
    else:
        images = coco_images(root)
        photographs = Needed(images, "COCO train2014 photographs", COCO_PAGE, folder=True)
    require(
        data.name,
        [
            Needed(refs_file, "expressions", REFER_PAGE),
            Needed(folder / "instances.json", "masks", REFER_PAGE),
            photographs,
        ],
    )
    refs = [ref for ref in _refs(refs_file) if _matches(str(ref["split"]), split)]
    if not refs:
        raise DatasetError(f"{refs_file} has no expressions of split {split!r}")
    instances = read_instances(folder / "instances.json", {ref["ann_id"] for ref in refs})
    names = (instances.image(ref["image_id"]).file_name for ref in refs)
    require_files(data.name, (images / name for name in names), "photographs", photographs.page)
    return _samples(data, split, refs, instances, images)


def _refs(path: Path) -> list[Mapping[str, Any]]:
    refs = read_pickle(path)
    keys = {"ref_id", "ann_id", "image_id", "split", "sentences"}
    if not isinstance(refs, list) or not refs:
        raise DatasetError(f"{path} holds no list of expressions")
    for number, ref in enumerate(refs):
        if not isinstance(ref, Mapping) or not keys <= set(ref):
            raise DatasetError(f"{path}: entry {number} lacks one of {', '.join(sorted(keys))}")
    return refs


def _matches(has: str, wanted: str) -> bool:
    """Tell whether an expression is in a split; refCLEF has some in several, as ``testAB``."""
    if wanted == "test":
        return "test" in has
    if wanted.startswith("test"):
        return has.startswith("test") and wanted.removeprefix("test") in has.removeprefix("test")
    return has == wanted


def _samples(
    data: ReferSet, split: str, refs: list[Mapping[str, Any]], instances: Instances, images: Path
) -> Iterator[Sample]:
    for ref in refs:
        where = f"{data.name} expression {ref['ref_id']}"
        image = instances.image(ref["image_id"])
        annotation = instances.annotation(ref["ann_id"])
        path = images / image.file_name
        check_size(path, image.size, f"what {instances.path} says")
        mask = segmentation_rle(annotation.get("segmentation"), image.size, where)
        box = box_of_xywh(annotation["bbox"], image.size, where) if "bbox" in annotation else None
        for sentence in ref["sentences"]:
            yield Sample(
                id=f"{data.name}-{split}-{ref['ref_id']}-{sentence['sent_id']}",
                dataset=data.name,
                split=split,
                image=path,
                task=Task.REFERRING,
                labels=(str(sentence["sent"]),),
                masks=(mask,),
                box=box,
            )
