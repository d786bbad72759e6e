"""What one sample came to: the question, the truth, and the service's answer or its failure.

A record holds all that the measures need, so that every figure can be computed again from the records alone.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import Codec, Decoding, decode_answer
from text4seg.masks import Box, Rle, decode_rle, upsample
from training.datasets.sample import Sample, from_json, to_json

NONE = "none"
"""The refiner of a question that asked for none."""


@dataclass(frozen=True, slots=True)
class Found:
    """One region, or one box of Detect.

    Attributes:
        label: What it was called.
        score: The service's score, 0 to 1.
        box: XYXY, half-open, pixels of the image.
        mask: In pixels of the image; None from Detect.
        refined: Whether the refiner made the mask.
        confidence: Probability of the label for each cell of the grid, float16 bytes in rows, little-endian,
            base64; empty where it was not told.
    """

    label: str
    score: float
    box: Box
    mask: Rle | None = None
    refined: bool = False
    confidence: str = ""

    def cells(self, shape: tuple[int, int]) -> NDArray[np.float64] | None:
        """Return the confidences, float64 [rows, columns], or None.

        Raises:
            ValueError: there are more or fewer than the grid has cells.
        """
        if not self.confidence:
            return None
        values = np.frombuffer(base64.b64decode(self.confidence), "<f2")
        if values.size != shape[0] * shape[1]:
            raise ValueError(f"{values.size} confidences do not fit a grid of {shape[0]}x{shape[1]}")
        return values.reshape(shape).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question of a dialogue, the true answer, and the answer given."""

    question: str
    truth: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered.

    Attributes:
        size: (height, width) of the image in pixels.
        shape: (rows, columns) of the descriptor's grid.
        codec: How the descriptor is written.
        text: All that the model wrote; empty from Detect and of a dialogue.
        found: Regions or boxes, in the order of the answer.
        exchanges: Of a dialogue.
        no_target: The service's probability that nothing matches.
        repairs: Kinds of repairs that the descriptor needed.
        cut: Whether the answer hit the limit of tokens.
        tokens: Tokens of the text; None without a tokenizer.
        truth_tokens: Tokens of the true descriptor in each codec; empty without a tokenizer.
        seconds: Time of each stage as the service tells it, and ``round trip``, as seen from here.
        warnings: Kinds of warnings.
        refiner: Version of the refiner; empty where none was asked.
    """

    size: tuple[int, int]
    shape: tuple[int, int]
    codec: Codec = Codec.RRLE
    text: str = ""
    found: tuple[Found, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    no_target: float = 0.0
    repairs: tuple[str, ...] = ()
    cut: bool = False
    tokens: int | None = None
    truth_tokens: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    refiner: str = ""

    def decoding(self, labels: tuple[str, ...] | None) -> Decoding:
        """Read the model's text again; `labels` is what it could choose from, None for open vocabulary."""
        return decode_answer(self.text, self.shape, labels, self.codec)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the reason's name, and a sentence for a person."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """A sample, how it was asked, and what came of it: an answer or a failure, never both.

    Attributes:
        sample: The question and the truth.
        refiner: Name of the refiner's model, or ``none``.
        call: ``segment`` or ``detect``; ``chat`` of a dialogue.
        labels: The labels that were asked for, in their canonical spelling; None for open vocabulary.
        answer: What came back.
        failure: Why nothing did.
        attempts: Calls in all.
    """

    sample: Sample
    refiner: str
    call: str
    labels: tuple[str, ...] | None
    answer: Answer | None = None
    failure: Failure | None = None
    attempts: int = 1

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What is asked once only: data set, split, sample and refiner."""
        return (self.sample.dataset, self.sample.split, self.sample.id, self.refiner)

    @property
    def group(self) -> str:
        """Data set and split."""
        return f"{self.sample.dataset} {self.sample.split}".strip()


def answered_mask(answer: Answer) -> NDArray[np.bool_]:
    """Return everything that was found, bool [height, width].

    Raises:
        ValueError: a region has no mask, or one of another size.
    """
    union = np.zeros(answer.size, bool)
    for found in answer.found:
        if found.mask is None or found.mask.size != answer.size:
            raise ValueError(f"{found.label!r} has no mask of {answer.size[1]}x{answer.size[0]} pixels")
        union |= decode_rle(found.mask)
    return union


def coarse_mask(record: Record) -> NDArray[np.bool_]:
    """Return what the model's own text marks, upsampled to the image, bool [height, width].

    Raises:
        ValueError: the record has no answer.
    """
    if record.answer is None:
        raise ValueError("a question without an answer has no mask")
    cells = record.answer.decoding(record.labels).grid.cells
    return upsample(cells != 0, record.answer.size)


def detected_box(answer: Answer) -> Box | None:
    """Return the best box of Detect, or None."""
    best = max(answer.found, key=lambda found: found.score, default=None)
    return None if best is None else best.box


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record as JSON values."""
    return {
        "sample": to_json(record.sample),
        "refiner": record.refiner,
        "call": record.call,
        "labels": None if record.labels is None else list(record.labels),
        "attempts": record.attempts,
        "answer": None if record.answer is None else _answer_to_json(record.answer),
        "failure": None
        if record.failure is None
        else {"reason": record.failure.reason, "message": record.failure.message},
    }


def record_from_json(value: dict[str, Any]) -> Record:
    """Return the record that :func:`record_to_json` described.

    Raises:
        KeyError, TypeError, ValueError, InvalidInputError: it is none.
    """
    answer, failure, labels = value["answer"], value["failure"], value["labels"]
    if (answer is None) == (failure is None):
        raise ValueError("a record has either an answer or a failure")
    return Record(
        sample=from_json(value["sample"]),
        refiner=str(value["refiner"]),
        call=str(value["call"]),
        labels=None if labels is None else tuple(map(str, labels)),
        answer=None if answer is None else _answer_from_json(answer),
        failure=None if failure is None else Failure(str(failure["reason"]), str(failure["message"])),
        attempts=int(value["attempts"]),
    )


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    return {
        "size": list(answer.size),
        "shape": list(answer.shape),
        "codec": answer.codec.value,
        "text": answer.text,
        "found": [
            {
                "label": found.label,
                "score": found.score,
                "box": list(found.box),
                "mask": None if found.mask is None else found.mask.to_coco(),
                "refined": found.refined,
                "confidence": found.confidence,
            }
            for found in answer.found
        ],
        "exchanges": [[turn.question, turn.truth, turn.answer] for turn in answer.exchanges],
        "no_target": answer.no_target,
        "repairs": list(answer.repairs),
        "cut": answer.cut,
        "tokens": answer.tokens,
        "truth_tokens": answer.truth_tokens,
        "seconds": answer.seconds,
        "warnings": list(answer.warnings),
        "refiner": answer.refiner,
    }


def _answer_from_json(value: dict[str, Any]) -> Answer:
    height, width = value["size"]
    rows, columns = value["shape"]
    return Answer(
        size=(int(height), int(width)),
        shape=(int(rows), int(columns)),
        codec=Codec(value["codec"]),
        text=str(value["text"]),
        found=tuple(
            Found(
                label=str(found["label"]),
                score=float(found["score"]),
                box=Box(*found["box"]),
                mask=None if found["mask"] is None else Rle.from_coco(found["mask"]),
                refined=bool(found["refined"]),
                confidence=str(found["confidence"]),
            )
            for found in value["found"]
        ),
        exchanges=tuple(Exchange(*map(str, turn)) for turn in value["exchanges"]),
        no_target=float(value["no_target"]),
        repairs=tuple(map(str, value["repairs"])),
        cut=bool(value["cut"]),
        tokens=None if value["tokens"] is None else int(value["tokens"]),
        truth_tokens={str(codec): int(count) for codec, count in value["truth_tokens"].items()},
        seconds={str(stage): float(seconds) for stage, seconds in value["seconds"].items()},
        warnings=tuple(map(str, value["warnings"])),
        refiner=str(value["refiner"]),
    )
