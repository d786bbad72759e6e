"""Measure a nano checkpoint as it is served: every question goes over gRPC to a generator started here.

Run: ``python -m training.nano.evaluate --photos DIR --sprites DIR``. Held-out photographs (one fifth, by hash
of the image id) are asked about with category names; composed scenes put known sprites on held-out
photographs. Targets have at least 2% of the image; the coarse mask is upsampled to the image without
refinement.
"""

import argparse
import io
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, Decoding, LabelGrid, decode_answer, decode_strict
from text4seg.errors import DescriptorMalformedError
from text4seg.masks import box_of, upsample
from text4seg.metrics import BoxAccuracy, CumulativeIoU, GeneralizedIoU, iou
from text4seg.scores import (
    IDENTITY,
    Calibration,
    Calibrations,
    TokenLogprob,
    mask_score,
    no_target_score,
    patch_probabilities,
)
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.child_service import ChildService, ServiceEndedError, child_service
from training.judging.calibration import REGION_IOU, calibration_error, centres
from training.nano.calibration import fit_calibration
from training.nano.photos import Photo, load_categories, load_photos
from training.nano.pool import split_photos, split_sprites
from training.nano.scenes import composed_scene, merged
from training.nano.sprites import Sprite, load_sprites

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "nano"
LEAST_SHARE = 0.02
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Item:
    """One question: an encoded image, a phrase, and the true mask (empty when nothing matches)."""

    image: bytes
    phrase: str
    truth: NDArray[np.bool_]


Items = list[Item]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        mask: Grid mask, bool [rows, cols].
        confidence: In what each cell was called, [rows, cols].
        well_formed: Whether the text is what the codec writes.
        tokens: How many were written.
        forced: How many of them the grammar left no choice about.
        seconds: From the question to the end of the answer.
    """

    mask: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    well_formed: bool
    tokens: int = 0
    forced: int = 0
    seconds: float = 0.0


@contextmanager
def generator(checkpoint: Path, threads: int) -> Iterator[GeneratorServiceStub]:
    """Run a generator service on a free port of this machine.

    Raises:
        ServiceEndedError: it ended at start; it has said why.
    """
    settings = {
        "T4S_GENERATOR_CHECKPOINT": str(checkpoint), "T4S_GENERATOR_THREADS": str(threads),
        "T4S_GENERATOR_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    with (
        child_service("services.generator", settings) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        stub = GeneratorServiceStub(channel)  # type: ignore[no-untyped-call]
        wait_until_loaded(stub, service)
        yield stub


def wait_until_loaded(stub: GeneratorServiceStub, service: ChildService, most_s: float = 300) -> None:
    """Wait for the model.

    Raises:
        ServiceEndedError: its process has ended; it has said why.
        grpc.RpcError: it is not loaded in time.
    """
    deadline = time.monotonic() + most_s
    while True:
        try:
            stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest(), timeout=5)
        except grpc.RpcError:
            service.check()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def ask(
    stub: GeneratorServiceStub,
    item: Item,
    shape: tuple[int, int],
    codec: Codec = Codec.RRLE,
    *,
    constrained: bool = True,
) -> Answer:
    """Ask one question over gRPC; if not constrained, without the grammar."""
    request = pb.GenerateRequest(
        image=item.image,
        turns=[pb.Turn(role=pb.ROLE_USER, text=dialogue.referring_question(item.phrase))],
        constraint=pb.DescriptorConstraint(labels=[item.phrase]) if constrained else None,
        logprobs=True,
    )
    text, tokens, finish, begun = "", [], pb.GenerateFinish(), time.perf_counter()
    for piece in stub.Generate(request, timeout=120):
        finish = piece.finish
        text += piece.text
        tokens += [TokenLogprob(token.begin, token.end, token.logprob) for token in piece.logprobs]
    seconds = time.perf_counter() - begun
    decoding = decode_answer(text, shape, [item.phrase], codec)
    return Answer(
        mask_in(decoding, item.phrase),
        patch_probabilities(decoding, tokens),
        well_formed(text, shape, item.phrase, codec),
        finish.completion_tokens,
        finish.forced_tokens,
        seconds,
    )


def mask_in(decoding: Decoding, phrase: str) -> NDArray[np.bool_]:
    """Return where the grid shows a phrase, bool [rows, cols]."""
    grid = decoding.grid
    return grid.mask(phrase) if phrase in grid.labels else np.zeros(grid.shape, bool)


def well_formed(answer: str, shape: tuple[int, int], phrase: str, codec: Codec = Codec.RRLE) -> bool:
    """Tell whether an answer holds exactly one block, closed and free of repairs."""
    blocks = dialogue.find_blocks(answer)
    if len(blocks) != 1 or not blocks[0].closed:
        return False
    try:
        decode_strict(blocks[0].text, shape, [phrase], codec)
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


Told = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Probabilities, and what came true."""


def cells_told(answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int]) -> Told:
    """Return how sure answers were of what each cell is called, and whether it is that."""
    right = [centres(item.truth, shape) == answer.mask for item, answer in answers]
    told = np.concatenate([answer.confidence.ravel() for _, answer in answers])
    return told, np.concatenate(right, axis=None)


def regions_told(answers: Sequence[tuple[Item, Answer]], cells: Calibration) -> Told:
    """Return the scores of the regions that were found, and whether they are the right ones."""
    told, right = [], []
    for item, answer in answers:
        if answer.mask.any():
            told.append(mask_score(cells.apply(answer.confidence), answer.mask))
            mask = upsample(answer.mask, (item.truth.shape[0], item.truth.shape[1]))
            right.append(iou(mask, item.truth) > REGION_IOU)
    return np.array(told), np.array(right, bool)


def nothing_told(answers: Sequence[tuple[Item, Answer]], cells: Calibration) -> Told:
    """Return the no-target scores of answers, and whether nothing was there."""
    told = []
    for item, answer in answers:
        grid = LabelGrid((OTHERS, item.phrase), answer.mask.astype(np.int16))
        told.append(no_target_score(grid, cells.apply(answer.confidence)))
    return np.array(told), np.array([not item.truth.any() for item, _ in answers])


def calibration_figures(
    answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int], draw: random.Random
) -> tuple[dict[str, float], Calibrations]:
    """Fit the calibrations to one half of the answers; return their errors on the other half, and without."""
    shuffled = draw.sample(list(answers), len(answers))
    half, other = shuffled[::2], shuffled[1::2]
    cells = fit_calibration(*cells_told(half, shape))
    fitted = Calibrations(
        cells, fit_calibration(*regions_told(half, cells)), fit_calibration(*nothing_told(half, cells))
    )
    figures: dict[str, float] = {}
    for name, calibration, (told, right), (before, right_before) in (
        ("calibration error", fitted.cells, cells_told(other, shape), cells_told(other, shape)),
        ("regions", fitted.regions, regions_told(other, cells), regions_told(other, IDENTITY)),
        ("nothing there", fitted.nothing, nothing_told(other, cells), nothing_told(other, IDENTITY)),
    ):
        title = name if name == "calibration error" else f"calibration error, {name}"
        figures[title] = calibration_error(calibration.apply(told), right)
        figures[f"{title} uncalibrated"] = calibration_error(before, right_before)
    return figures, fitted


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


def measure(
    stub: GeneratorServiceStub, sets: dict[str, Items], limit: int, draw: random.Random
) -> tuple[dict[str, float], Calibrations]:
    """Ask all questions, at most `limit` of each set unless it is 0; return figures and a calibration."""
    info = stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest())
    shape, codec = (info.grid_rows, info.grid_columns), Codec(info.codec)
    figures: dict[str, float] = {}
    every: list[tuple[Item, Answer]] = []
    for name, items in sets.items():
        draw.shuffle(items)
        answers = [(item, ask(stub, item, shape, codec)) for item in tqdm(items[: limit or None], desc=name)]
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


def write_calibration(checkpoint: Path, calibrations: Calibrations) -> None:
    """Write the calibrations into the checkpoint's ``config.json``, where serving reads them."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    written = asdict(calibrations)
    config["text4seg"]["calibration"] = {**written.pop("cells"), **written}
    file.write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Measure and print; write ``build/nano-evaluation.json``."""
    parser = argparse.ArgumentParser(prog="python -m training.nano.evaluate", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--limit", type=int, default=0, help="most questions per set; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--calibrate", action="store_true", help="write the best calibration into the checkpoint"
    )
    parser.add_argument("--out", type=Path, default=Path("build/nano-evaluation.json"))
    options = parser.parse_args()
    draw = random.Random(options.seed)
    try:
        sets = held_out_sets(options.photos, options.sprites, options.scenes, draw, options.seed)
        with generator(options.checkpoint, options.threads) as stub:
            figures, calibration = measure(stub, sets, options.limit, draw)
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
