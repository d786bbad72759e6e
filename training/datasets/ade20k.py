"""ADE20K as in the scene parsing challenge of 2016, 150 classes.

    ROOT/images/training/ADE_train_00000001.jpg
    ROOT/annotations/training/ADE_train_00000001.png            0 other objects, 1 to 150
    the same with validation

ROOT is ``ADEChallengeData2016`` or the folder that holds it. Other objects are void.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.label_maps import class_names, paired_keys, semantic_samples
from training.datasets.layout import Needed, OnSkip, require
from training.datasets.sample import Sample

NAME = "ade20k"
SPLITS = ("train", "val")
PAGE = "http://sceneparsing.csail.mit.edu"
FOLDER = "ADEChallengeData2016"

_FOLDERS = {"train": "training", "val": "validation"}

# The first of the names that the data set gives each class.
CLASSES = class_names(
    """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
    earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
    mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion,
    base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
    refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
    river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
    palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light,
    truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane, dirt track,
    apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship,
    fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall,
    tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal,
    bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
    ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
    """,
    first=1,
)
IGNORED = frozenset({0})


def open_ade20k(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split, one sample for each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    images, label_maps = folder / "images" / _FOLDERS[split], folder / "annotations" / _FOLDERS[split]
    require(
        NAME,
        [
            Needed(images, "photographs", PAGE, folder=True),
            Needed(label_maps, "label maps", PAGE, folder=True),
        ],
    )
    return semantic_samples(
        dataset=NAME,
        split=split,
        keys=paired_keys(NAME, images, label_maps),
        images=images,
        label_maps=label_maps,
        classes=CLASSES,
        ignored=IGNORED,
    )
