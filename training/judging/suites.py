"""The paper's measures, each a function of records, which it may read several times.

Questions without an answer count nowhere but in the column "failed".
"""

import re
import string
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from text4seg.labels import normalize_label
from text4seg.masks import decode_rle, upsample
from text4seg.metrics import BoxAccuracy, CumulativeIoU, GeneralizedIoU, MeanIoU, NoTargetAccuracy, iou
from training.datasets.sample import Sample, Task
from training.judging.record import Record
from training.judging.tables import Table
from training.judging.variants import COARSE, DETECT, Judged, tabulated, true_box, true_mask

Suite: TypeAlias = Callable[[Iterable[Record]], Table]


class _Overlap:
    """Measures of masks, together."""

    def __init__(self, record: Record) -> None:
        self.cumulative, self.mean = CumulativeIoU(), GeneralizedIoU()
        self.empty = NoTargetAccuracy()
        self.without_target = 0
        self.ious: list[float] = []

    def add(self, judged: Judged) -> None:
        mask, truth = judged.mask(), true_mask(judged.record.sample)
        for measure in (self.cumulative, self.mean, self.empty):
            measure.add(mask, truth)
        self.without_target += not truth.any()
        self.ious.append(iou(mask, truth))

    def above_half(self) -> float:
        return float(np.mean(np.array(self.ious) > 0.5)) if self.ious else float("nan")


def referring_segmentation(records: Iterable[Record]) -> Table:
    """RES (Table 1): cIoU and gIoU over the phrases that match something."""

    def add(score: _Overlap, judged: Judged) -> bool:
        counts = judged.record.call != DETECT and bool(true_mask(judged.record.sample).any())
        if counts:
            score.add(judged)
        return counts

    rows = tabulated(records, Task.REFERRING, _Overlap, add)
    return Table(
        "res",
        "referring expression segmentation",
        ("data", "masks", "phrases", "failed", "cIoU", "gIoU", "P@0.5"),
        tuple(
            (
                row.group,
                row.variant,
                row.count,
                row.failed,
                row.score.cumulative.result(),
                row.score.mean.result(),
                row.score.above_half(),
            )
            for row in rows
        ),
        ("cIoU: sums of intersections over unions; gIoU: mean IoU; P@0.5: share with IoU above 0.5.",),
    )


def generalized_referring(records: Iterable[Record]) -> Table:
    """GRES (Table 2): phrases that may match several things, or none."""

    def add(score: _Overlap, judged: Judged) -> bool:
        counts = judged.record.call != DETECT
        if counts:
            score.add(judged)
        return counts

    rows = tabulated(records, Task.REFERRING, _Overlap, add)
    return Table(
        "gres",
        "generalized referring expression segmentation",
        ("data", "masks", "phrases", "no target", "failed", "gIoU", "cIoU", "N-acc", "T-acc"),
        tuple(
            (
                row.group,
                row.variant,
                row.count,
                row.score.without_target,
                row.failed,
                row.score.mean.result(),
                row.score.cumulative.result(),
                *row.score.empty.result(),
            )
            for row in rows
        ),
        (
            "N-acc: of phrases without a target, the share answered with nothing; "
            "T-acc: of the others, the share answered with something.",
        ),
    )


def referring_comprehension(records: Iterable[Record]) -> Table:
    """REC (Table 3): Acc@0.5 of boxes, of Detect or round the mask (mask2box)."""

    def add(score: BoxAccuracy, judged: Judged) -> bool:
        truth = true_box(judged.record.sample)
        if truth is not None:
            score.add(judged.box(), truth)
        return truth is not None

    rows = tabulated(records, Task.REFERRING, lambda _: BoxAccuracy(), add)
    return Table(
        "rec",
        "referring expression comprehension",
        ("data", "masks", "phrases", "failed", "Acc@0.5"),
        tuple((row.group, row.variant, row.count, row.failed, row.score.result()) for row in rows),
        ("Acc@0.5: share of boxes whose IoU with the true one is above 0.5.",),
    )


class ClassScore:
    """Pixels of each class. After the last comes the background: pixels that are neither a class nor void."""

    def __init__(self, record: Record) -> None:
        self.classes = record.sample.vocabulary or record.sample.labels
        self.pixels = MeanIoU(len(self.classes) + 1, void=len(self.classes) + 1)

    def add(self, judged: Judged) -> bool:
        """Count one image; not one of Detect."""
        if judged.record.call == DETECT:
            return False
        self.pixels.add(
            answered_classes(judged, self.classes), true_classes(judged.record.sample, self.classes)
        )
        return True

    def per_class(self) -> NDArray[np.float64]:
        """Return the IoU of each class, NaN for one that occurs nowhere; without the background."""
        return self.pixels.per_class()[: len(self.classes)]


def open_vocabulary(records: Iterable[Record]) -> Table:
    """Semantic segmentation (Table 5): mIoU over the classes of each data set."""
    table = []
    for row in tabulated(records, Task.SEMANTIC, ClassScore, ClassScore.add):
        ious = row.score.per_class()
        seen = ious[~np.isnan(ious)]
        mean = float(seen.mean()) if seen.size else float("nan")
        table.append((row.group, row.variant, row.count, row.failed, int(seen.size), mean))
    return Table(
        "vocabulary",
        "open-vocabulary segmentation",
        ("data", "masks", "images", "failed", "classes", "mIoU"),
        tuple(table),
        (
            "mIoU: mean over the classes that occur in truth or answers. Pixels of no class are background: "
            "marking them counts against a class.",
        ),
    )


def true_classes(sample: Sample, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return each pixel's class [height, width]: its place, then the background's, then void's.

    Raises:
        ValueError: a label is none of the classes.
    """
    place = {normalize_label(name): number for number, name in enumerate(classes)}
    size = sample.masks[0].size if sample.masks else sample.void.size if sample.void else (1, 1)
    truth = np.full(size, len(classes), np.int64)
    for number, label in enumerate(sample.labels):
        if normalize_label(label) not in place:
            raise ValueError(f"sample {sample.id}: {label!r} is none of its data set's classes")
        truth[sample.mask(number)] = place[normalize_label(label)]
    if sample.void is not None:
        truth[decode_rle(sample.void)] = len(classes) + 1
    return truth


def answered_classes(judged: Judged, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class that each pixel was given, [height, width]; names of no class are -1."""
    place = {normalize_label(name): number for number, name in enumerate(classes)}
    answer = judged.answer
    if judged.variant == COARSE:
        grid = answer.decoding(judged.record.labels).grid
        numbers = np.array([len(classes), *(place.get(label, -1) for label in grid.labels[1:])], np.int64)
        return upsample(numbers[grid.cells], answer.size)
    guess = np.full(answer.size, len(classes), np.int64)
    for found in sorted(answer.found, key=lambda found: found.score):
        if found.mask is not None:
            guess[decode_rle(found.mask)] = place.get(found.label, -1)
    return guess


def question_answering(records: Iterable[Record]) -> Table:
    """VQA: the share of answers that are the true one, but for case, punctuation, articles and numerals."""

    def add(score: list[bool], judged: Judged) -> bool:
        score += [plain(turn.answer) == plain(turn.truth) for turn in judged.answer.exchanges]
        return True

    rows = tabulated(records, Task.DIALOGUE, lambda _: list[bool](), add)
    return Table(
        "vqa",
        "question answering",
        ("data", "dialogues", "failed", "questions", "exact match"),
        tuple(
            (
                row.group,
                row.count,
                row.failed,
                len(row.score),
                float(np.mean(row.score)) if row.score else float("nan"),
            )
            for row in rows
        ),
        ("Each question is asked after the true answers to those before it.",),
    )


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = frozenset({"a", "an", "the"})
_SPACED = str.maketrans(dict.fromkeys(string.punctuation, " "))


def plain(text: str) -> str:
    """Return an answer as it is compared; after the VQA benchmark's evaluation (Antol et al. 2015)."""
    text = re.sub(r"(?<=\d),(?=\d)|(?<=\w)'(?=\w)", "", text.lower())
    text = re.sub(r"(?<=\d)\.(?=\d)", "\0", text).translate(_SPACED).replace("\0", ".")
    words = (_DIGITS.get(word, word) for word in text.split())
    return " ".join(word for word in words if word not in _ARTICLES)
