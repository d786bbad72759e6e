"""COCO-Stuff, 171 classes on the photographs of COCO 2017.

    ROOT/images/train2017/000000000009.jpg
    ROOT/annotations/train2017/000000000009.png     stuffthingmaps: class number less one, 255 unlabelled
    the same with val2017

The data set numbers 91 things and 91 kinds of stuff; eleven of the things were never marked and are no
classes. Unlabelled pixels are void.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.label_maps import class_names, paired_keys, semantic_samples
from training.datasets.layout import COCO_PAGE, Needed, OnSkip, require
from training.datasets.sample import Sample

NAME = "coco-stuff"
SPLITS = ("train", "val")
PAGE = "https://github.com/nightrome/cocostuff"

_NUMBERED = class_names(
    """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
    zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis,
    snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket,
    bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli,
    carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror, dining table, window,
    desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
    refrigerator, blender, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush,
    banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
    ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt,
    door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog,
    food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat,
    metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other,
    plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
    shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
    tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel,
    wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
    """,
    first=0,
)
_NEVER_MARKED = frozenset(
    {
        "blender",
        "desk",
        "door",
        "eye glasses",
        "hair brush",
        "hat",
        "mirror",
        "plate",
        "shoe",
        "street sign",
        "window",
    }
)
CLASSES = {value: name for value, name in _NUMBERED.items() if name not in _NEVER_MARKED}
IGNORED = frozenset({255})


def open_coco_stuff(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read a split, one sample for each image.

    Raises:
        DatasetError: something is missing or broken.
    """
    images, label_maps = root / f"images/{split}2017", root / f"annotations/{split}2017"
    require(
        NAME,
        [
            Needed(images, f"COCO {split}2017 photographs", COCO_PAGE, folder=True),
            Needed(label_maps, "stuffthingmaps", PAGE, folder=True),
        ],
    )
    # A widely used conversion leaves its own maps beside the original ones.
    keys = paired_keys(NAME, images, label_maps, leave_out="_labelTrainIds")
    return semantic_samples(
        dataset=NAME,
        split=split,
        keys=keys,
        images=images,
        label_maps=label_maps,
        classes=CLASSES,
        ignored=IGNORED,
    )
