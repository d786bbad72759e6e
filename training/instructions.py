"""Samples as conversations: the questions and answers that a language model is trained on.

What is drawn (sentences, kind of question, labels, crop) is drawn by a generator seeded with the sample's id,
so that it is the same in every run, whatever else is in the data. Sentences and masks are written by
`text4seg`, as in serving.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, LabelGrid, encode
from text4seg.labels import label_problem, normalize_label
from text4seg.masks import Box, coverage, to_grid
from training.datasets.sample import Message, Sample, Task

IMAGE_TOKEN = "<image>"
"""Where both forms expect the image; always in front of the first question."""

Rule = Literal["nearest", "area"]

_CROP_DRAWS = 10


class Kind(StrEnum):
    """What a conversation asks."""

    REFERRING = "referring"
    OPEN = "open"
    """Name everything."""
    PARTIAL = "partial"
    """Some of the classes that are there."""
    CONDITIONED = "conditioned"
    """All classes that are there, mostly among others that are not."""
    DIALOGUE = "dialogue"


SEMANTIC_KINDS = (Kind.OPEN, Kind.PARTIAL, Kind.CONDITIONED)


class SkippedSample(Exception):  # noqa: N818 - nothing went wrong: a sample is left out
    """A sample that cannot be asked.

    Attributes:
        reason: Why, in words that are the same for all samples left out for it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Style:
    """How samples become conversations.

    Attributes:
        grid: Rows and columns.
        codec: How grids are written.
        rule: Which cells a mask covers: ``nearest`` takes the pixel at the cell's centre, as published;
            ``area`` what covers most of the cell.
        seed: Changes everything that is drawn.
        mix: Weights of open, partial and conditioned questions about classes.
        distractors: Most absent classes in a conditioned question.
        distractor_share: Share of the conditioned questions that have any.
        crop_share: Share of the semantic samples of which a random window is shown. Referring expressions
            are never cropped: "the left one" would no longer be on the left, or no longer be there.
        crop_side: Shortest side of a window, as a share of the image's.
        keep_vanished: Keep a referring sample whose mask is too small for any cell. It then reads as if
            nothing were there, as in the published data.
    """

    grid: tuple[int, int] = (16, 16)
    codec: Codec = Codec.RRLE
    rule: Rule = "nearest"
    seed: int = 0
    mix: tuple[int, int, int] = (1, 3, 6)
    distractors: int = 10
    distractor_share: float = 0.8
    crop_share: float = 0.0
    crop_side: float = 0.5
    keep_vanished: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions about an image, and the answers to learn.

    Attributes:
        id: The sample's, and which copy of it.
        kind: What is asked.
        image: The image file.
        crop: Window of the image that is shown, in pixels as stored; all of it if None.
        messages: Turns, the user's first, in plain text without the image token.
        grid: What the answer's mask describes; None in a dialogue.
        vanished: Something is marked in the image, but covers no cell.
    """

    id: str
    kind: Kind
    image: Path
    crop: Box | None
    messages: tuple[Message, ...]
    grid: LabelGrid | None = None
    vanished: bool = False


def instruct(sample: Sample, style: Style, copy: int = 0) -> Conversation:
    """Ask a sample.

    Args:
        sample: What to ask.
        style: How.
        copy: Number of the copy; each draws anew.

    Raises:
        SkippedSample: it cannot be asked; in particular, a label could not be written in a descriptor.
        InvalidInputError: a mask is broken.
    """
    rng = random.Random(f"{style.seed} {copy} {sample.id}")
    name = f"{sample.id}-{copy}" if copy else sample.id
    if sample.task is Task.DIALOGUE:
        return Conversation(name, Kind.DIALOGUE, sample.image, None, _dialogue(sample))
    if len(sample.labels) != len(sample.masks) or not sample.labels:
        raise SkippedSample("nothing is marked")
    labels = [_written(label) for label in sample.labels]
    if len(set(labels)) < len(labels):
        raise SkippedSample("two labels read the same")
    if sample.task is Task.REFERRING:
        return _referring(sample, name, labels[0], style, rng)
    return _semantic(sample, name, labels, style, rng)


def label_grid(
    labels: Sequence[str], masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int], rule: Rule
) -> LabelGrid:
    """Shrink masks that do not overlap to a grid.

    Args:
        labels: In canonical spelling, all different.
        masks: One per label, bool [height, width], all of one size.
        shape: Rows and columns of the grid.
        rule: ``nearest``: the label of the pixel at the cell's centre. ``area``: the label that covers most
            of the cell, if no less than what is left without a label; for one label, half of the cell.
            Pixels that nobody judges count as without a label.

    Raises:
        ValueError: an impossible shape, or an unknown rule.
        LabelInvalidError: a label could not be written.
    """
    if rule == "nearest":
        cells = np.zeros(shape, dtype=np.int16)
        for index, mask in enumerate(masks, start=1):
            cells[to_grid(mask, shape, "nearest")] = index
    elif rule == "area":
        shares = np.stack([coverage(mask, shape) for mask in masks])
        most = shares.max(axis=0)
        named = (most > 0) & (most >= 1 - shares.sum(axis=0))
        cells = np.where(named, shares.argmax(axis=0) + 1, 0).astype(np.int16)
    else:
        raise ValueError(f"unknown rule {rule!r}")
    return LabelGrid((OTHERS, *labels), cells)


def to_swift(conversation: Conversation, image: str) -> dict[str, Any]:
    """Return a row in the form of ms-swift: ``messages`` with roles and contents, ``images``."""
    return {
        "messages": [
            {"role": message.role, "content": text}
            for message, text in zip(conversation.messages, _texts(conversation), strict=True)
        ],
        "images": [image],
    }


def to_llava(conversation: Conversation, image: str) -> dict[str, Any]:
    """Return a row in the form of LLaVA: ``id``, ``image``, ``conversations`` from human and gpt."""
    return {
        "id": conversation.id,
        "image": image,
        "conversations": [
            {"from": "human" if message.role == "user" else "gpt", "value": text}
            for message, text in zip(conversation.messages, _texts(conversation), strict=True)
        ],
    }


def _texts(conversation: Conversation) -> list[str]:
    texts = [message.text for message in conversation.messages]
    return [f"{IMAGE_TOKEN}\n{texts[0]}", *texts[1:]]


def _written(label: str) -> str:
    problem = label_problem(label)
    if problem is not None:
        raise SkippedSample(f"a label {problem}")
    if IMAGE_TOKEN in label.lower():
        raise SkippedSample(f"a label contains {IMAGE_TOKEN!r}, the place of the image")
    return normalize_label(label)


def _turns(question: str, answer: str) -> tuple[Message, ...]:
    return Message("user", question), Message("assistant", answer)


def _dialogue(sample: Sample) -> tuple[Message, ...]:
    roles = [message.role for message in sample.messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise SkippedSample("turns are not question and answer")
    if any(IMAGE_TOKEN in message.text for message in sample.messages):
        raise SkippedSample(f"a turn contains {IMAGE_TOKEN!r}, the place of the image")
    if not all(message.text.strip() for message in sample.messages):
        raise SkippedSample("a turn is empty")
    if any("\ud800" <= character <= "\udfff" for message in sample.messages for character in message.text):
        raise SkippedSample("a turn holds half a character (a lone surrogate)")
    return sample.messages


def _referring(sample: Sample, name: str, phrase: str, style: Style, rng: random.Random) -> Conversation:
    if len(sample.labels) != 1:
        raise SkippedSample("a referring sample with several phrases")
    mask = sample.mask()
    grid = label_grid([phrase], [mask], style.grid, style.rule)
    vanished = bool(mask.any()) and not grid.present
    if vanished and not style.keep_vanished:
        raise SkippedSample("too small for any cell")
    answer = dialogue.answer_text(dialogue.referring_answer(phrase, rng), encode(grid, style.codec))
    messages = _turns(dialogue.referring_question(phrase, rng), answer)
    return Conversation(name, Kind.REFERRING, sample.image, None, messages, grid, vanished)


def _semantic(
    sample: Sample, name: str, labels: Sequence[str], style: Style, rng: random.Random
) -> Conversation:
    masks = [sample.mask(index) for index in range(len(labels))]
    kind = rng.choices(SEMANTIC_KINDS, style.mix)[0]
    crop = _crop(masks, style, rng) if rng.random() < style.crop_share else None
    if crop is not None:
        masks = [mask[crop.y0 : crop.y1, crop.x0 : crop.x1] for mask in masks]
    there = {label: mask for label, mask in zip(labels, masks, strict=True) if mask.any()}
    if not there:
        raise SkippedSample("nothing is marked")
    asked = list(there)
    if kind is Kind.PARTIAL:
        asked = rng.sample(asked, rng.randint(1, max(1, len(asked) - 1)))
    listed = list(asked)
    if kind is Kind.CONDITIONED and rng.random() < style.distractor_share:
        listed += _distractors(sample, labels, style, rng)
    rng.shuffle(listed)
    grid = label_grid(asked, [there[label] for label in asked], style.grid, style.rule)
    question = (
        dialogue.open_question(rng) if kind is Kind.OPEN else dialogue.conditioned_question(listed, rng)
    )
    answer = dialogue.answer_text(dialogue.answer_sentence(rng), encode(grid, style.codec))
    vanished = len(grid.present) < len(asked)
    return Conversation(name, kind, sample.image, crop, _turns(question, answer), grid, vanished)


def _distractors(sample: Sample, labels: Sequence[str], style: Style, rng: random.Random) -> list[str]:
    """Draw classes of the data set that the image (not only its window) does not have."""
    writable = (normalize_label(label) for label in sample.vocabulary if label_problem(label) is None)
    absent = [label for label in dict.fromkeys(writable) if label not in labels]
    most = min(style.distractors, len(absent))
    return rng.sample(absent, rng.randint(1, most)) if most else []


def _crop(masks: Sequence[NDArray[np.bool_]], style: Style, rng: random.Random) -> Box | None:
    """Draw a window with something in it, or none after a few draws."""
    height, width = masks[0].shape
    marked = np.logical_or.reduce(masks)
    for _ in range(_CROP_DRAWS):
        rows = max(1, round(height * rng.uniform(style.crop_side, 1)))
        columns = max(1, round(width * rng.uniform(style.crop_side, 1)))
        top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
        window = Box(left, top, left + columns, top + rows)
        if marked[top : top + rows, left : left + columns].any():
            return window
    return None
