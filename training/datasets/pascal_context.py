"""PASCAL Context, 59 classes, in the layout that the conversion with the Detail API leaves.

    ROOT/VOC2010/JPEGImages/2008_000002.jpg
    ROOT/VOC2010/SegmentationClassContext/2008_000002.png       0 background, 1 to 59
    ROOT/VOC2010/ImageSets/SegmentationContext/train.txt, val.txt

ROOT is ``VOCdevkit``; its parent and ``VOC2010`` itself are taken too. Background is void.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.label_maps import class_names, listed_keys, semantic_samples
from training.datasets.layout import Needed, OnSkip, require
from training.datasets.pascal_voc import devkit
from training.datasets.sample import Sample

NAME = "pascal-context"
SPLITS = ("train", "val")
IMAGES_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
MAPS_PAGE = "https://github.com/open-mmlab/mmsegmentation/blob/main/docs/en/user_guides/2_dataset_prepare.md"

# In the order of the label maps, with the compounds of PASCAL VOC written as words.
CLASSES = class_names(
    """
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog, horse, motorbike,
    person, potted plant, sheep, sofa, train, tv monitor, bag, bed, bench, book, building, cabinet,
    ceiling, cloth, computer, cup, door, fence, floor, flower, food, grass, ground, keyboard, light,
    mountain, mouse, curtain, platform, sign, plate, road, rock, shelves, sidewalk, sky, snow,
    bedclothes, track, tree, truck, wall, water, window, wood
    """,
    first=1,
)
IGNORED = frozenset({0, 255})


def open_pascal_context(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split, one sample for each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    folder = devkit(root, "VOC2010")
    images, label_maps = folder / "JPEGImages", folder / "SegmentationClassContext"
    names = folder / "ImageSets/SegmentationContext" / f"{split}.txt"
    require(
        NAME,
        [
            Needed(images, "photographs of VOC 2010", IMAGES_PAGE, folder=True),
            Needed(label_maps, "label maps of the 59 classes", MAPS_PAGE, folder=True),
            Needed(names, f"names of split {split}", MAPS_PAGE),
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
