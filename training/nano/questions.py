"""Questions about a scene and their answers, in the words and the codec that serving uses."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, LabelGrid, encode
from training.nano.colours import COLOURS, NEIGHBOURS

GRID = 24
"""Rows and columns of the bundled model's grid."""
COVERED = 115
"""A cell (0..255) belongs to a thing from this share on: 45%."""
MOST_RUNS = 105
"""Longer descriptors (here of 24 rows) cost every other question of their batch its time."""
MOST_ABSENT = 8
"""Names that are drawn in the hope that they are absent."""
PRESENT = 0.0025
"""Things with less than this share of the image are not asked about."""
APART = 3 / 16
"""Two things stand clearly apart, one left of the other or above it, from this share of the image on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its answer.

    Attributes:
        question: What the user says.
        sentence: First line of the answer.
        labels: Labels of the grid besides "others"; empty for plain text.
        cells: int16 [grid, grid], index into ("others", *labels).
        block: Descriptor text in R-RLE, or "" for plain text.
        referring: Whether the answer names one phrase or "others" only.
    """

    question: str
    sentence: str
    labels: tuple[str, ...]
    cells: NDArray[np.int16]
    block: str
    referring: bool

    def block_in(self, codec: Codec) -> str:
        """Return the descriptor text in a codec."""
        if codec is Codec.RRLE or not self.block:
            return self.block
        return encode(LabelGrid((OTHERS, *self.labels), self.cells), codec)


def present(share: NDArray[Any]) -> bool:
    """Tell whether a thing is large enough to be asked about, from its share of each cell, [grid, grid]."""
    return int(share.astype(np.int64).sum()) >= PRESENT * 255 * share.size


def union_by_name(names: Sequence[str], shares: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """Add up the covered shares of each name, int64 [grid, grid], 255 is all of a cell."""
    union: dict[str, NDArray[np.int64]] = {}
    for name, share in zip(names, shares, strict=True):
        union[name] = union.get(name, np.zeros(share.shape, np.int64)) + share
    return {name: share for name, share in union.items() if present(share)}


def referring(phrase: str, share: NDArray[np.int64] | None, rng: random.Random, grid: int = GRID) -> Example:
    """Ask for one phrase; `share` is None when nothing matches."""
    cells = np.zeros((grid, grid), np.int16) if share is None else (share >= COVERED).astype(np.int16)
    choice = 0 if rng.random() < 0.6 else rng
    question = dialogue.referring_question(phrase, choice)
    sentence = dialogue.referring_answer(phrase, 0 if rng.random() < 0.8 else rng)
    return Example(question, sentence, (phrase,), cells, encode(LabelGrid((OTHERS, phrase), cells)), True)


def semantic(
    labels: Sequence[str],
    union: Mapping[str, NDArray[np.int64]],
    rng: random.Random,
    grid: int = GRID,
    *,
    named: bool,
) -> Example:
    """Ask for a label list (`named`) or for everything there is (open vocabulary)."""
    empty = np.zeros((grid, grid), np.int64)
    stack = np.stack([np.full((grid, grid), COVERED - 1), *(union.get(label, empty) for label in labels)])
    cells = stack.argmax(0).astype(np.int16)
    choice = 0 if rng.random() < 0.6 else rng
    question = dialogue.conditioned_question(labels, choice) if named else dialogue.open_question(choice)
    block = encode(LabelGrid((OTHERS, *labels), cells))
    return Example(question, dialogue.answer_sentence(0), tuple(labels), cells, block, False)


def positional(names: Sequence[str], shares: NDArray[np.uint8], rng: random.Random) -> Example | None:
    """Ask for one of two things of the same name by where it is; None when no two stand clearly apart."""
    by_name: dict[str, list[NDArray[np.uint8]]] = {}
    for name, share in zip(names, shares, strict=True):
        if present(share):
            by_name.setdefault(name, []).append(share)
    pairs = [(name, group) for name, group in by_name.items() if len(group) == 2]
    if not pairs:
        return None
    name, group = pairs[rng.randrange(len(pairs))]
    grid = shares.shape[-1]
    rows, columns = np.mgrid[0:grid, 0:grid]
    centres = [((rows * share).sum() / share.sum(), (columns * share).sum() / share.sum()) for share in group]
    down, across = centres[1][0] - centres[0][0], centres[1][1] - centres[0][1]
    if max(abs(down), abs(across)) < APART * grid:
        return None
    words = ("left", "right") if abs(across) >= abs(down) else ("top", "bottom")
    offset = across if abs(across) >= abs(down) else down
    wanted = rng.randrange(2)
    chosen = wanted if offset > 0 else 1 - wanted
    word = words[wanted]
    phrase = rng.choice([f"{name} on the {word}", f"{word} {name}", f"the {name} on the {word}"])
    return referring(phrase, group[chosen].astype(np.int64), rng)


def coloured(
    names: Sequence[str], shares: NDArray[np.uint8], colours: Sequence[str], rng: random.Random
) -> Example | None:
    """Ask for the things of one name and colour, or for a colour that none of that name has."""
    told: dict[str, list[int]] = {}
    for index, (name, share) in enumerate(zip(names, shares, strict=True)):
        if present(share):
            told.setdefault(name, []).append(index)
    certain = [name for name, group in told.items() if all(colours[index] for index in group)]
    if not certain:
        return None
    name = rng.choice(certain)
    here = sorted({colours[index] for index in told[name]})
    if rng.random() < 0.35:
        near = {near for colour in here for near in NEIGHBOURS.get(colour, ())}
        other = rng.choice([colour for colour in COLOURS if colour not in here and colour not in near])
        return referring(f"{other} {name}", None, rng, shares.shape[-1])
    colour = rng.choice(here)
    chosen = [shares[index].astype(np.int64) for index in told[name] if colours[index] == colour]
    return referring(f"{colour} {name}", np.sum(chosen, axis=0), rng)


def caption(text: str, rng: random.Random, grid: int = GRID) -> Example:
    """Ask for a description of the image."""
    empty = np.zeros((grid, grid), np.int16)
    return Example(dialogue.caption_question(rng), text, (), empty, "", False)


def questions_of(
    names: Sequence[str],
    shares: NDArray[np.uint8],
    colours: Sequence[str],
    *,
    complete: bool,
    captions: Sequence[str],
    nouns: Sequence[str],
    sprite_nouns: Sequence[str],
    count: int,
    rng: random.Random,
) -> list[Example]:
    """Draw questions about one scene.

    Args:
        names: Name of each instance.
        shares: Visible share of each cell, uint8 [instances, grid, grid].
        colours: Colour of each instance, "" where it is not told.
        complete: Whether a name of `nouns` that is not among `names` is truly absent.
        captions: What people said about the image.
        nouns: All names, to draw absent ones from.
        sprite_nouns: Names that are absent from a scene unless they were pasted.
        count: Number of questions; fewer come when there is neither a thing nor an absent name to ask for.
        rng: Draws them.
    """
    grid = shares.shape[-1]
    union = union_by_name(names, shares)
    there = list(union)
    around = nouns if complete else sprite_nouns
    result: list[Example] = []
    for _ in range(count):
        draw = rng.random()
        drawn = rng.sample(list(around), min(len(around), MOST_ABSENT))
        absent = [name for name in drawn if name not in names]
        example: Example | None = None
        if draw < 0.04 and captions:
            example = caption(rng.choice(list(captions)), rng, grid)
        elif draw < 0.12:
            example = positional(names, shares, rng)
        elif draw < 0.19:
            example = coloured(names, shares, colours, rng)
        elif draw < 0.29 and there:
            labels = rng.sample(there, min(len(there), rng.randint(1, 3))) + absent[: rng.randint(0, 3)]
            rng.shuffle(labels)
            example = semantic(labels, union, rng, grid, named=True)
        elif draw < 0.34 and there and complete:
            example = semantic(sorted(there), union, rng, grid, named=False)
        elif draw < 0.52 and absent:
            example = referring(absent[0], None, rng, grid)
        if example is not None and example.block.count("*") * GRID > MOST_RUNS * grid:
            example = None
        if example is None and there:
            weights = [float(union[name].sum()) ** 0.5 for name in there]
            name = rng.choices(there, weights)[0]
            phrase = f"the {name}" if rng.random() < 0.15 else name
            example = referring(phrase, union[name], rng)
        if example is None and absent:
            example = referring(absent[0], None, rng, grid)
        if example is not None:
            result.append(example)
    return result
