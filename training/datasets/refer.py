"""refCLEF, refCOCO, refCOCO+ and refCOCOg in the layout of the REFER interface.

    ROOT/refcoco/refs(unc).p, instances.json          the same for refcoco+, refcocog, refclef
    ROOT/images/mscoco/images/train2014/              COCO's photographs, for all but refCLEF
    ROOT/images/saiapr_tc-12/                         refCLEF's photographs

``refs(...).p`` are pickles of plain lists and dictionaries; they are read by an unpickler that builds nothing
else, so that a file from a stranger cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

_NOTHING = -1


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
    entries = read_pickle(refs_file)
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f"{refs_file} holds no list of expressions")
    references = [reference_of(entry, f"{refs_file}: entry {number}") for number, entry in enumerate(entries)]
    del entries
    chosen = [reference for reference in references if _matches(reference.split, split)]
    if not chosen:
        raise DatasetError(f"{refs_file} has no expressions of split {split!r}")
    return expressions(data.name, split, chosen, folder / "instances.json", images, photographs.page)


@dataclass(frozen=True, slots=True)
class Reference:
    """What is said of some things in an image.

    Attributes:
        id: The data set's id.
        targets: Annotation ids of the things; none where the expressions mean nothing.
        image_id: The image.
        split: The split that it belongs to.
        sentences: Id and text of each expression.
    """

    id: Id
    targets: tuple[Id, ...]
    image_id: Id
    split: str
    sentences: tuple[tuple[Id, str], ...]


def reference_of(entry: Any, where: str) -> Reference:
    """Read an entry of the REFER interface, or of gRefCOCO, whose ``ann_id`` is a list, [-1] for nothing.

    Raises:
        DatasetError: something lacks.
    """
    try:
        listed = entry["ann_id"] if isinstance(entry["ann_id"], list) else [entry["ann_id"]]
        return Reference(
            entry["ref_id"],
            tuple(target for target in listed if target != _NOTHING),
            entry["image_id"],
            str(entry["split"]),
            tuple((sentence["sent_id"], str(sentence["sent"])) for sentence in entry["sentences"]),
        )
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{where} is not {{ref_id, ann_id, image_id, split, sentences}}: {type(error).__name__} {error}"
        ) from error


def expressions(
    name: str,
    split: str,
    references: Sequence[Reference],
    instances_file: Path,
    images: Path,
    page: str,
    *,
    crowds: bool = True,
) -> Iterator[Sample]:
    """Read one sample for each expression; one that means nothing has an empty mask.

    Args:
        name: Of the data set.
        split: Of the samples.
        references: What is said.
        instances_file: COCO file with the masks.
        images: Folder of the photographs.
        page: Where the photographs come from, for the error.
        crowds: Whether annotations of crowds are part of a mask.

    Raises:
        DatasetError: a photograph is missing, or the file is broken.
    """
    instances = read_instances(instances_file, {target for ref in references for target in ref.targets})
    names = (instances.image(reference.image_id).file_name for reference in references)
    require_files(name, (images / file_name for file_name in names), "photographs", page)
    return _expressions(name, split, references, instances, images, crowds)


def _expressions(
    name: str,
    split: str,
    references: Sequence[Reference],
    instances: Instances,
    images: Path,
    crowds: bool,
) -> Iterator[Sample]:
    for reference in references:
        where = f"{name} expression {reference.id}"
        image = instances.image(reference.image_id)
        path = images / image.file_name
        check_size(path, image.size, f"what {instances.path} says")
        targets = [instances.annotation(target) for target in reference.targets]
        masks = [
            segmentation_rle(target.get("segmentation"), image.size, where)
            for target in targets
            if crowds or not target.get("iscrowd")
        ]
        mask = union(masks) if masks else empty_mask(image.size)
        single = len(targets) == len(masks) == 1 and "bbox" in targets[0]
        box = box_of_xywh(targets[0]["bbox"], image.size, where) if single else None
        for sentence_id, sentence in reference.sentences:
            yield Sample(
                id=f"{name}-{split}-{reference.id}-{sentence_id}",
                dataset=name,
                split=split,
                image=path,
                task=Task.REFERRING,
                labels=(sentence,),
                masks=(mask,),
                box=box,
            )


def _matches(has: str, wanted: str) -> bool:
    """Tell whether an expression is in a split; refCLEF has some in several, as ``testAB``."""
    if wanted == "test":
        return "test" in has
    if wanted.startswith("test"):
        return has.startswith("test") and wanted.removeprefix("test") in has.removeprefix("test")
    return has == wanted
