"""Records as a service would have answered them, drawn by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from text4seg.descriptors import Codec, LabelGrid, encode
from text4seg.dialogue import answer_text
from text4seg.masks import Box, box_of, encode_rle, upsample
from training.datasets.sample import Message, Sample, Task
from training.judging.record import NONE, Answer, Exchange, Failure, Found, Record

Mask = NDArray[np.bool_]
SIZE = (40, 60)
GRID = (4, 6)
NOWHERE = Path("nowhere.png")


def cells(*rows: str) -> Mask:
    """A grid: ``#`` is marked."""
    return np.array([[cell == "#" for cell in row] for row in rows])


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def referring(number: int, truth: Mask, phrase: str = "cat", **fields: Any) -> Sample:
    defaults: dict[str, Any] = {"dataset": "drawn", "split": "val", "image": NOWHERE}
    return Sample(
        str(number),
        task=Task.REFERRING,
        labels=(phrase,),
        masks=(encode_rle(truth),),
        **{**defaults, **fields},
    )


def answered(
    sample: Sample, marked: Mask, refined: Mask | None = None, refiner: str = NONE, **fields: Any
) -> Record:
    """What comes back when the model marks cells, and a refiner makes a mask of them."""
    (label,) = sample.labels
    text = answer_text("Sure.", encode(LabelGrid(("others", label), marked.astype(np.int16)), Codec.RRLE))
    mask = upsample(marked, SIZE) if refined is None else refined
    box = box_of(mask)
    found = (Found(label, 0.9, box, encode_rle(mask), refined is not None),) if box else ()
    answer = Answer(SIZE, marked.shape, Codec.RRLE, text, found, **fields)
    return Record(sample, refiner, "segment", (label,), answer)


def detected(sample: Sample, *boxes: tuple[Box, float]) -> Record:
    found = tuple(Found(sample.labels[0], score, box) for box, score in boxes)
    return Record(sample, NONE, "detect", sample.labels, Answer(SIZE, GRID, found=found))


def failed(sample: Sample, reason: str = "DEADLINE_EXCEEDED", refiner: str = NONE) -> Record:
    return Record(sample, refiner, "segment", sample.labels, None, Failure(reason, "it took too long"))


def talked(number: int, *turns: tuple[str, str, str], image: Path = NOWHERE) -> Record:
    """A dialogue: question, truth, answer."""
    messages = [
        message
        for question, truth, _ in turns
        for message in (Message("user", question), Message("assistant", truth))
    ]
    sample = Sample(str(number), "talk", "val", image, Task.DIALOGUE, messages=tuple(messages))
    answer = Answer(SIZE, GRID, exchanges=tuple(Exchange(*turn) for turn in turns))
    return Record(sample, NONE, "chat", (), answer)


def semantic(
    number: int, truth: dict[str, Mask], void: Mask, vocabulary: tuple[str, ...], image: Path = NOWHERE
) -> Sample:
    return Sample(
        str(number),
        "scenes",
        "val",
        image,
        Task.SEMANTIC,
        tuple(truth),
        tuple(map(encode_rle, truth.values())),
        encode_rle(void),
        vocabulary,
    )


def described(sample: Sample, numbers: NDArray[np.int16], names: tuple[str, ...]) -> Record:
    """An answer to a semantic sample: numbers [rows, columns] index into others and the names."""
    text = answer_text("Sure.", encode(LabelGrid(("others", *names), numbers), Codec.RRLE))
    found = []
    for place, name in enumerate(names, start=1):
        mask = upsample(numbers == place, SIZE)
        box = box_of(mask)
        if box:
            found.append(Found(name, 0.8, box, encode_rle(mask)))
    answer = Answer(SIZE, (numbers.shape[0], numbers.shape[1]), Codec.RRLE, text, tuple(found))
    return Record(sample, NONE, "segment", names, answer)


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A file of one colour."""
    Image.new("RGB", (size[1], size[0]), (120, 130, 140)).save(path)
    return path
