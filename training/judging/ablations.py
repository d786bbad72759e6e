"""The paper's ablations, from records: refiners, resolutions, codecs."""

from collections.abc import Iterable, Iterator

import numpy as np

from text4seg.descriptors import Codec, encode
from text4seg.masks import to_grid, upsample
from text4seg.metrics import CumulativeIoU, GeneralizedIoU, boundary_f_score
from training.datasets.sample import Task
from training.judging.asking import true_grid
from training.judging.record import Answer, Record
from training.judging.tables import Cell, Table
from training.judging.variants import COARSE, DETECT, Judged, judged_answers, true_mask

SIDES = (16, 24, 32, 64)
"""Cells along each side of the grids that are compared."""


def refiners(records: Iterable[Record]) -> Table:
    """Refiner ablation (Tables 6 and 8): quality and time, on the phrases that all of them answered."""
    names: dict[tuple[str, str, str], set[str]] = {}
    for record in records:
        if record.sample.task is Task.REFERRING and record.answer is not None and record.call != DETECT:
            names.setdefault(record.key[:3], set()).add(record.refiner)
    every = set().union(*names.values())
    shared = {key for key, there in names.items() if there == every}
    rows: dict[str, tuple[CumulativeIoU, GeneralizedIoU, list[float], list[Answer], list[bool]]] = {}
    for judged in judged_answers(records, Task.REFERRING):
        truth = true_mask(judged.record.sample)
        if judged.record.key[:3] not in shared or not truth.any():
            continue
        mask = judged.mask()
        entry = rows.setdefault(judged.variant, (CumulativeIoU(), GeneralizedIoU(), [], [], []))
        entry[0].add(mask, truth)
        entry[1].add(mask, truth)
        entry[2].append(boundary_f_score(mask, truth))
        entry[3].append(judged.answer)
        entry[4].append(any(not found.refined for found in judged.answer.found))
    table: list[tuple[Cell, ...]] = []
    for name, (cumulative, mean, boundary, answers, kept) in sorted(rows.items(), key=_coarse_first):
        coarse = name == COARSE
        seconds = [_seconds(answers, stage) for stage in ("generate", "refine")]
        table.append(
            (
                name,
                len(answers),
                cumulative.result(),
                mean.result(),
                float(np.mean(boundary)),
                None if coarse else int(np.sum(kept)),
                seconds[0],
                None if coarse else seconds[1],
            )
        )
    return Table(
        "refiners",
        "refiner ablation",
        ("masks", "phrases", "cIoU", "gIoU", "boundary F", "kept coarse", "generate s", "refine s"),
        tuple(table),
        (
            "kept coarse: answers with a region whose refined mask was dropped. Seconds: medians of what the "
            "service tells, waiting included; ask with --in-flight 1 for times to compare.",
        ),
    )


def resolution(records: Iterable[Record]) -> Table:
    """Resolution (Fig. 6): what a grid can hold at best, and what the model made of its own.

    The best that a grid can hold is the truth, shrunk to it by area and upsampled again. For models of
    several resolutions compare one run of each.
    """
    ceilings = {side: (CumulativeIoU(), GeneralizedIoU()) for side in SIDES}
    own: dict[tuple[int, int], tuple[CumulativeIoU, GeneralizedIoU, list[Answer]]] = {}
    for judged in _coarse(records):
        truth = true_mask(judged.record.sample)
        if not truth.any():
            continue
        for side, measures in ceilings.items():
            best = upsample(to_grid(truth, (side, side)), (truth.shape[0], truth.shape[1]))
            for measure in measures:
                measure.add(best, truth)
        cumulative, mean, answers = own.setdefault(
            judged.answer.shape, (CumulativeIoU(), GeneralizedIoU(), [])
        )
        mask = judged.mask()
        cumulative.add(mask, truth)
        mean.add(mask, truth)
        answers.append(judged.answer)
    table: list[tuple[Cell, ...]] = [
        (f"{side}x{side}", "truth", c.result(), g.result(), None) for side, (c, g) in ceilings.items()
    ]
    table += [
        (f"{rows}x{columns}", "model", c.result(), g.result(), _seconds(answers, "generate"))
        for (rows, columns), (c, g, answers) in sorted(own.items())
    ]
    return Table(
        "resolution",
        "resolution of the grid, before refinement",
        ("grid", "described by", "cIoU", "gIoU", "generate s"),
        tuple(table),
        ("truth: the true mask shrunk to the grid, the best that any description of it can reach.",),
    )


def codecs(records: Iterable[Record]) -> Table:
    """Codec (Fig. 8): length of the descriptor, time, and quality.

    The truth is written in every codec; the model writes in its own. For models of several codecs compare one
    run of each.
    """
    characters: dict[Codec, list[int]] = {codec: [] for codec in Codec}
    tokens: dict[Codec, list[int]] = {codec: [] for codec in Codec}
    own: dict[Codec, tuple[CumulativeIoU, list[Answer]]] = {}
    for judged in _coarse(records):
        sample, answer = judged.record.sample, judged.answer
        grid = true_grid(sample, answer.shape)
        for codec in Codec:
            characters[codec].append(len(encode(grid, codec)))
            if codec.value in answer.truth_tokens:
                tokens[codec].append(answer.truth_tokens[codec.value])
        cumulative, answers = own.setdefault(answer.codec, (CumulativeIoU(), []))
        cumulative.add(judged.mask(), true_mask(sample))
        answers.append(answer)
    table: list[tuple[Cell, ...]] = [
        (
            codec.value,
            "truth",
            len(characters[codec]),
            _mean(characters[codec]),
            _mean(tokens[codec]),
            None,
            None,
            None,
        )
        for codec in Codec
        if characters[codec]
    ]
    for codec, (cumulative, answers) in own.items():
        counted = [answer.tokens for answer in answers if answer.tokens is not None]
        whole = [not answer.repairs and not answer.cut for answer in answers]
        table.append(
            (
                codec.value,
                "model",
                len(answers),
                _mean([len(answer.text) for answer in answers]),
                _mean(counted),
                _seconds(answers, "generate"),
                cumulative.result(),
                float(np.mean(whole)),
            )
        )
    return Table(
        "codec",
        "codec of the descriptor",
        ("codec", "written by", "phrases", "characters", "tokens", "generate s", "cIoU", "well-formed"),
        tuple(table),
        (
            "Means; seconds: the median. Tokens are the checkpoint's, of its text; the model's answers "
            "begin with a sentence.",
        ),
    )


def _coarse(records: Iterable[Record]) -> Iterator[Judged]:
    return (judged for judged in judged_answers(records, Task.REFERRING) if judged.variant == COARSE)


def _seconds(answers: Iterable[Answer], stage: str) -> float:
    there = [answer.seconds[stage] for answer in answers if stage in answer.seconds]
    return float(np.median(there)) if there else float("nan")


def _mean(values: list[int]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _coarse_first(item: tuple[str, object]) -> tuple[bool, str]:
    return item[0] != COARSE, item[0]
