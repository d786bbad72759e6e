"""Measure a nano checkpoint as it is served: every question goes over gRPC to a generator that this script starts.

Run: ``python -m training.nano.evaluate --photos DIR --sprites DIR``. Held-out photographs (one fifth, by hash
of the image id) are asked about with category names; composed scenes put known sprites on held-out photographs. Targets
have at least 2% of the image; the coarse mask is upsampled to the image without refinement.
"""

import argparse
import io
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from text4seg import dialogue
from text4seg.descriptors import decode_answer, decode_strict
from text4seg.errors import DescriptorMalformedError
from text4seg.masks import box_of, upsample
from text4seg.metrics import BoxAccuracy, CumulativeIoU, GeneralizedIoU
from text4seg.scores import TokenLogprob, label_probabilities, patch_probabilities
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.nano.photos import load_photos
from training.nano.pool import split_photos, split_sprites
from training.nano.scenes import composed_scene, merged, photo_scene
from training.nano.sprites import load_sprites

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "nano"
LEAST_SHARE = 0.02
BINS = 15


@dataclass(frozen=True, slots=True)
class Item:
    """One question: an encoded image, a phrase, and the true mask (empty when nothing matches)."""

    image: bytes
    phrase: str
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said: the grid mask, the probability of the phrase in each cell, and whether it is well-formed."""

    mask: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    well_formed: bool


@contextmanager
def generator(checkpoint: Path, threads: int) -> Iterator[GeneratorServiceStub]:
    """Run a generator service on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ, "T4S_GENERATOR_ADDRESS": address, "T4S_GENERATOR_CHECKPOINT": str(checkpoint),
        "T4S_GENERATOR_THREADS": str(threads), "T4S_GENERATOR_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "services.generator"], env=environment)
    try:
        with grpc.insecure_channel(address) as channel:
            stub = GeneratorServiceStub(channel)
            stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest(), wait_for_ready=True, timeout=120)
            yield stub
    finally:
        process.terminate()
        process.wait(30)


def ask(stub: GeneratorServiceStub, item: Item, shape: tuple[int, int]) -> Answer:
    """Ask one question over gRPC."""
    request = pb.GenerateRequest(
        image=item.image,
        turns=[pb.Turn(role=pb.ROLE_USER, text=dialogue.referring_question(item.phrase))],
        constraint=pb.DescriptorConstraint(labels=[item.phrase]),
        logprobs=True,
    )
    text, tokens = "", []
    for piece in stub.Generate(request, timeout=120):
        text += piece.text
        tokens += [TokenLogprob(token.begin, token.end, token.logprob) for token in piece.logprobs]
    decoding = decode_answer(text, shape, [item.phrase])
    probabilities = patch_probabilities(decoding, tokens)
    empty = item.phrase not in decoding.grid.labels
    mask = np.zeros(shape, bool) if empty else decoding.grid.mask(item.phrase)
    shares = 1 - probabilities if empty else label_probabilities(decoding.grid, probabilities, item.phrase)
    return Answer(mask, shares, well_formed(text, shape, item.phrase))


def well_formed(answer: str, shape: tuple[int, int], phrase: str) -> bool:
    """Tell whether an answer holds exactly one block, closed and free of repairs."""
    blocks = dialogue.find_blocks(answer)
    if len(blocks) != 1 or not blocks[0].closed:
        return False
    try:
        decode_strict(blocks[0].text, shape, [phrase])
    except DescriptorMalformedError:
        return False
    return True


def encoded(image: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


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


def calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of cell probabilities: 15 bins, weighted by size."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    total = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            total += inside.mean() * abs(probabilities[inside].mean() - truth[inside].mean())
    return float(total)


def main() -> None:
    """Measure and print; write ``build/nano-evaluation.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--limit", type=int, default=0, help="most questions per set; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("build/nano-evaluation.json"))
    options = parser.parse_args()
    rng, draw = np.random.default_rng(options.seed), random.Random(options.seed)
    photos = split_photos(load_photos(options.photos), held=True)
    every_sprite = load_sprites(options.sprites)
    known, unknown = split_sprites(every_sprite, held=False), split_sprites(every_sprite, held=True)
    nouns = {sprite.noun for sprite in known}
    categories = sorted(
        {c["name"] for c in json.loads((options.photos / "instances.json").read_text())["categories"]}
    )
    sets: dict[str, list[Item]] = {"photographs": [], "composed": [], "unknown names": [], "absent": []}
    for photo in photos:
        union = merged(photo_scene(photo, rng, augment=False))
        image = encoded(photo.image)
        for name in sorted(union):
            truth = np.logical_or.reduce(
                [mask for label, mask in zip(photo.names, photo.masks, strict=True) if label == name]
            )
            if truth.mean() >= LEAST_SHARE:
                sets["photographs"].append(Item(image, name, truth))
        missing = [name for name in categories if name not in photo.names]
        sets["absent"].append(Item(image, draw.choice(missing), np.zeros(photo.image.shape[:2], bool)))
    for name, sprites, count in (
        ("composed", known, options.scenes),
        ("unknown names", unknown, options.scenes // 3),
    ):
        for _ in range(count):
            scene = composed_scene(photos, sprites, rng)
            image = encoded(scene.image)
            union = merged(scene)
            drawn = {sprite.noun for sprite in sprites}
            sets[name] += [
                Item(image, noun, mask)
                for noun, mask in sorted(union.items())
                if noun in drawn and mask.mean() >= LEAST_SHARE
            ]
            if name == "composed":
                missing = sorted(nouns - set(scene.names))
                sets["absent"].append(
                    Item(image, draw.choice(missing), np.zeros(scene.image.shape[:2], bool))
                )
    figures: dict[str, float] = {}
    pairs: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
    formed: list[bool] = []
    with generator(options.checkpoint, options.threads) as stub:
        info = stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest())
        shape = (info.grid_rows, info.grid_columns)
        for name, items in sets.items():
            draw.shuffle(items)
            asked = items[: options.limit or None]
            answers = [(item, ask(stub, item, shape)) for item in tqdm(asked, desc=name)]
            formed += [answer.well_formed for _, answer in answers]
            if name == "absent":
                figures["absent questions"] = len(answers)
                figures["absent answered nothing"] = float(
                    np.mean([not answer.mask.any() for _, answer in answers])
                )
            else:
                figures |= report(name, answers)
            for item, answer in answers:
                height, width = item.truth.shape
                rows = (np.arange(shape[0]) * 2 + 1) * height // (2 * shape[0])
                columns = (np.arange(shape[1]) * 2 + 1) * width // (2 * shape[1])
                pairs.append((answer.probabilities.ravel(), item.truth[np.ix_(rows, columns)].ravel()))
    figures["well-formed"] = float(np.mean(formed))
    figures["calibration error"] = calibration_error(
        np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])
    )
    for name, value in figures.items():
        print(f"{name:32s} {value:8.3f}" if isinstance(value, float) else f"{name:32s} {value:8d}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
