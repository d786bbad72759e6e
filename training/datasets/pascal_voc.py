"""PASCAL VOC 2012, 20 classes.

    ROOT/VOC2012/JPEGImages/2007_000032.jpg
    ROOT/VOC2012/SegmentationClass/2007_000032.png          0 background, 1 to 20, 255 outlines
    ROOT/VOC2012/ImageSets/Segmentation/train.txt, val.txt, trainval.txt
    ROOT/VOC2012/SegmentationClassAug/, ImageSets/Segmentation/trainaug.txt   for split trainaug only

ROOT is ``VOCdevkit``; its parent and ``VOC2012`` itself are taken too. Background and outlines are nobody's:
they are void.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.label_maps import class_names, listed_keys, semantic_samples
from training.datasets.layout import Needed, OnSkip, require
from training.datasets.sample import Sample

NAME = "pascal-voc"
SPLITS = ("train", "val", "trainval", "trainaug")
PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
AUGMENTED_PAGE = (
    "https://github.com/open-mmlab/mmsegmentation/blob/main/docs/en/user_guides/2_dataset_prepare.md"
)

# The data set's names, with its compounds ("pottedplant") written as words.
CLASSES = class_names(
    """
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse,
    motorbike, person, potted plant, sheep, sofa, train, tv monitor
    """,
    first=1,
)
IGNORED = frozenset({0, 255})


def devkit(root: Path, year: str) -> Path:
    """Return the folder ``VOC2012`` or ``VOC2010``, given it, ``VOCdevkit`` or the folder that holds that."""
    places = [root / year, root / "VOCdevkit" / year, root]
    return next((place for place in places if (place / "JPEGImages").is_dir()), places[0])


def open_pascal_voc(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split, one sample for each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    folder = devkit(root, "VOC2012")
    augmented = split == "trainaug"
    page = AUGMENTED_PAGE if augmented else PAGE
    images = folder / "JPEGImages"
    label_maps = folder / ("SegmentationClassAug" if augmented else "SegmentationClass")
    names = folder / "ImageSets/Segmentation" / f"{split}.txt"
    require(
        NAME,
        [
            Needed(images, "photographs", PAGE, folder=True),
            Needed(label_maps, "label maps", page, folder=True),
            Needed(names, f"names of split {split}", page),
        ],
    )
    return semantic_samples(
        dataset=NAME,
        split=split,
        keys=listed_keys(NAME, names, images, label_maps),
        images=images,
        label_maps=label_maps,
        classes=CLASSES,
        ignored=IGNORED,
    )
