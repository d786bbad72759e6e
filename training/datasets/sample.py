"""One thing to learn or to judge: an image, what is asked, and the truth."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from text4seg.errors import InvalidInputError
from text4seg.masks import Box, Rle, decode_rle


class Task(StrEnum):
    """What is asked about the image."""

    REFERRING = "referring"
    """One phrase: what it means, perhaps several things, perhaps nothing."""
    SEMANTIC = "semantic"
    """Every pixel's class."""
    DIALOGUE = "dialogue"
    """Questions and answers in plain text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue: ``role`` is "user" or "assistant"."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with a question and its true answer.

    Masks are kept as run lengths, so that a sample is small however large its image; `Sample.mask` decodes
    one when it is needed.

    Attributes:
        id: Unique in its data set and split, and the same in every run.
        dataset: For example "refcoco".
        split: For example "val".
        image: The image file.
        task: What is asked.
        labels: Referring: the phrase alone. Semantic: names of the classes that are there. Dialogue: none.
        masks: One per label, in pixels of the image as stored; in a semantic sample no two overlap. A
            referring phrase that nothing matches has an empty mask.
        void: Pixels that nobody judges, or None.
        vocabulary: Semantic: all class names of the data set, in its order.
        box: Referring: the annotated box, where the data set has one of its own; otherwise None.
        messages: Dialogue: the turns.
    """

    id: str
    dataset: str
    split: str
    image: Path
    task: Task
    labels: tuple[str, ...] = ()
    masks: tuple[Rle, ...] = ()
    void: Rle | None = None
    vocabulary: tuple[str, ...] = ()
    box: Box | None = None
    messages: tuple[Message, ...] = ()

    def mask(self, index: int = 0) -> NDArray[np.bool_]:
        """Return the mask of a label, bool [height, width]."""
        return decode_rle(self.masks[index])


def write_samples(samples: Iterable[Sample], path: Path) -> int:
    """Write samples as JSON lines, one at a time; return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(to_json(sample), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file that `write_samples` wrote.

    Raises:
        ValueError: a line is not a sample; the message names file and line.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield from_json(json.loads(line))
            except (KeyError, TypeError, ValueError, InvalidInputError) as error:
                raise ValueError(f"{path}:{number}: not a sample: {error}") from error


def to_json(sample: Sample) -> dict[str, Any]:
    """Return a sample as JSON values."""
    return {
        "id": sample.id,
        "dataset": sample.dataset,
        "split": sample.split,
        "image": str(sample.image),
        "task": sample.task.value,
        "labels": list(sample.labels),
        "masks": [mask.to_coco() for mask in sample.masks],
        "void": sample.void.to_coco() if sample.void else None,
        "vocabulary": list(sample.vocabulary),
        "box": list(sample.box) if sample.box else None,
        "messages": [{"role": message.role, "content": message.text} for message in sample.messages],
    }


def from_json(value: dict[str, Any]) -> Sample:
    """Return the sample that `to_json` described."""
    return Sample(
        id=str(value["id"]),
        dataset=str(value["dataset"]),
        split=str(value["split"]),
        image=Path(value["image"]),
        task=Task(value["task"]),
        labels=tuple(value["labels"]),
        masks=tuple(Rle.from_coco(mask) for mask in value["masks"]),
        void=Rle.from_coco(value["void"]) if value["void"] else None,
        vocabulary=tuple(value["vocabulary"]),
        box=Box(*value["box"]) if value["box"] else None,
        messages=tuple(Message(turn["role"], turn["content"]) for turn in value["messages"]),
    )
