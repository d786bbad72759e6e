"""Measure a nano checkpoint as it is served: every question goes over gRPC to a generator started here.

Run: ``python -m training.nano.evaluate --photos DIR --sprites DIR``. Held-out photographs (one fifth, by hash
of the image id) are asked about with category names; composed scenes put known sprites on held-out
photographs. Targets have at least 2% of the image; the coarse mask is upsampled to the image without
refinement.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from text4seg.descriptors import Codec
from text4seg.masks import box_of, upsample
from text4seg.metrics import BoxAccuracy, CumulativeIoU, GeneralizedIoU
from text4seg.scores import Calibrations
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.child_service import ServiceEndedError
from training.nano.asking import Answer, Item, Items, ask, encoded, generator
from training.nano.calibration import calibration_figures, write_calibration
from training.nano.photos import Photo, load_categories, load_photos
from training.nano.pool import split_photos, split_sprites
from training.nano.scenes import composed_scene, merged
from training.nano.sprites import Sprite, load_sprites

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "nano"
LEAST_SHARE = 0.02
ABSENT = "absent"


def report(name: str, answers: Sequence[tuple[Item, Answer]]) -> dict[str, float]:
    """Return the figures of one set of questions with a target."""
    cumulative, mean, boxes = CumulativeIoU(), GeneralizedIoU(), BoxAccuracy()
    for item, answer in answers:
        height, width = item.truth.shape
        mask = upsample(answer.mask, (height, width))
        cumulative.add(mask, item.truth)
        mean.add(mask, item.truth)
        boxes.add(box_of(mask), box_of(item.truth))
    return {
        f"{name} questions": len(answers),
        f"{name} cIoU": cumulative.result(),
        f"{name} gIoU": mean.result(),
        f"{name} Acc@0.5": boxes.result(),
    }


def photo_items(
    photos: Sequence[Photo], categories: Sequence[str], draw: random.Random
) -> tuple[Items, Items]:
    """Return questions about all that photographs show, and one for each about what it does not show."""
    present, absent = Items(), Items()
    for photo in photos:
        image = encoded(photo.image)
        for name in sorted(set(photo.names)):
            masks = [mask for label, mask in zip(photo.names, photo.masks, strict=True) if label == name]
            truth: NDArray[np.bool_] = np.logical_or.reduce(masks)
            if truth.mean() >= LEAST_SHARE:
                present.append(Item(image, name, truth))
        missing = [name for name in categories if name not in photo.names]
        if missing:
            absent.append(Item(image, draw.choice(missing), np.zeros(photo.image.shape[:2], bool)))
    return present, absent


def scene_items(
    photos: Sequence[Photo],
    sprites: Sequence[Sprite],
    count: int,
    rng: np.random.Generator,
    draw: random.Random,
) -> tuple[Items, Items]:
    """Return questions about all sprites in new scenes, and one for each about what it does not show."""
    present, absent = Items(), Items()
    nouns = {sprite.noun for sprite in sprites}
    for _ in range(count):
        scene = composed_scene(photos, sprites, rng)
        image = encoded(scene.image)
        present += [
            Item(image, noun, mask)
            for noun, mask in sorted(merged(scene).items())
            if noun in nouns and mask.mean() >= LEAST_SHARE
        ]
        missing = sorted(nouns - set(scene.names))
        absent.append(Item(image, draw.choice(missing), np.zeros(scene.image.shape[:2], bool)))
    return present, absent


def held_out_sets(
    photos_folder: Path, sprites_folder: Path, scenes: int, draw: random.Random, seed: int
) -> dict[str, Items]:
    """Return the questions about what was not trained on, by the name of their set.

    Raises:
        FileNotFoundError: photographs or sprites are missing.
    """
    rng = np.random.default_rng(seed)
    photos = split_photos(load_photos(photos_folder), held=True)
    categories = sorted(set(load_categories(photos_folder)))
    sprites = load_sprites(sprites_folder)
    known, unknown = split_sprites(sprites, held=False), split_sprites(sprites, held=True)
    in_photos, not_in_photos = photo_items(photos, categories, draw)
    in_scenes, not_in_scenes = scene_items(photos, known, scenes, rng, draw)
    unknown_names, _ = scene_items(photos, unknown, scenes // 3, rng, random.Random(seed))
    return {
        "photographs": in_photos,
        "composed": in_scenes,
        "unknown names": unknown_names,
        ABSENT: not_in_photos + not_in_scenes,
    }


def add_data_options(parser: argparse.ArgumentParser, limit: int = 0) -> None:
    """Let a command be told which questions to ask, at most `limit` of each set by default."""
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--limit", type=int, default=limit, help="most questions per set; 0: all")
    parser.add_argument("--seed", type=int, default=7)


def chosen_sets(options: argparse.Namespace, draw: random.Random) -> dict[str, Items]:
    """Return the questions that the options of `add_data_options` ask for, in a drawn order.

    Raises:
        FileNotFoundError: photographs or sprites are missing.
    """
    sets = held_out_sets(options.photos, options.sprites, options.scenes, draw, options.seed)
    for items in sets.values():
        draw.shuffle(items)
    return {name: items[: options.limit or None] for name, items in sets.items()}


def measure(
    stub: GeneratorServiceStub, sets: dict[str, Items], draw: random.Random
) -> tuple[dict[str, float], Calibrations]:
    """Ask all questions; return figures and calibrations."""
    info = stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest())
    shape, codec = (info.grid_rows, info.grid_columns), Codec(info.codec)
    figures: dict[str, float] = {}
    every: list[tuple[Item, Answer]] = []
    for name, items in sets.items():
        answers = [(item, ask(stub, item, shape, codec)) for item in tqdm(items, desc=name)]
        if name == ABSENT:
            figures["absent questions"] = len(answers)
            figures["absent answered nothing"] = float(
                np.mean([not answer.mask.any() for _, answer in answers])
            )
        else:
            figures |= report(name, answers)
        every += answers
    figures["well-formed"] = float(np.mean([answer.well_formed for _, answer in every]))
    errors, calibration = calibration_figures(every, shape, draw)
    return figures | errors, calibration


def main() -> None:
    """Measure and print; write ``build/nano-evaluation.json``."""
    parser = argparse.ArgumentParser(prog="python -m training.nano.evaluate", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--calibrate", action="store_true", help="write the best calibration into the checkpoint"
    )
    parser.add_argument("--out", type=Path, default=Path("build/nano-evaluation.json"))
    options = parser.parse_args()
    draw = random.Random(options.seed)
    try:
        sets = chosen_sets(options, draw)
        with generator(options.checkpoint, options.threads) as stub:
            figures, calibration = measure(stub, sets, draw)
    except (FileNotFoundError, ServiceEndedError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for name, value in figures.items():
        print(f"{name:32s} {value:8.3f}" if isinstance(value, float) else f"{name:32s} {value:8d}")
    print(f"fitted: {calibration}")
    if options.calibrate:
        write_calibration(options.checkpoint, calibration)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
