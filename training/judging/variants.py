"""Records as rows of a table: one for each data set, and for each way in which its questions were answered.

``coarse`` is what the model's own text marks, and any other variant what that refiner made of it; ``detect``
are the boxes of Detect.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import Box, box_of, decode_rle
from training.datasets.sample import Sample, Task
from training.judging.record import NONE, Answer, Record, answered_mask, coarse_mask, detected_box

COARSE = "coarse"
DETECT = "detect"

Mask = NDArray[np.bool_]
Score = TypeVar("Score")


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer in one of its variants."""

    record: Record
    answer: Answer
    variant: str

    def mask(self) -> Mask:
        """Return all that this variant marks, bool [height, width]. Not for Detect."""
        return coarse_mask(self.record) if self.variant == COARSE else answered_mask(self.answer)

    def box(self) -> Box | None:
        """Return the box round all that is marked (mask2box), or the best one of Detect."""
        return detected_box(self.answer) if self.record.call == DETECT else box_of(self.mask())


@dataclass(slots=True)
class Row(Generic[Score]):
    """One row: what was counted, of how many answers, and how many questions have none."""

    group: str
    variant: str
    score: Score
    count: int = 0
    failed: int = 0


def judged_answers(records: Iterable[Record], task: Task) -> Iterator[Judged]:
    """Yield each answer to samples of a task; of each sample, once, also what no refiner touched."""
    coarse: set[tuple[str, str, str]] = set()
    for record in records:
        if record.sample.task is not task or record.answer is None:
            continue
        if record.call == DETECT:
            yield Judged(record, record.answer, DETECT if record.refiner == NONE else record.refiner)
            continue
        if record.key[:3] not in coarse:
            coarse.add(record.key[:3])
            yield Judged(record, record.answer, COARSE)
        if record.refiner != NONE:
            yield Judged(record, record.answer, record.refiner)


def tabulated(
    records: Iterable[Record],
    task: Task,
    start: Callable[[Record], Score],
    add: Callable[[Score, Judged], bool],
) -> list[Row[Score]]:
    """Count the answers to samples of a task.

    Args:
        records: Read twice.
        task: Of the samples that count.
        start: Makes what a row counts with, from any record of the row.
        add: Counts one answer; tells whether it belongs there.

    Returns:
        Rows by data set, ``coarse`` first; also those in which every question failed.
    """
    rows: dict[tuple[str, str], Row[Score]] = {}

    def row(record: Record, variant: str) -> Row[Score]:
        if (record.group, variant) not in rows:
            rows[record.group, variant] = Row(record.group, variant, start(record))
        return rows[record.group, variant]

    answered: set[tuple[str, str, str]] = set()
    for judged in judged_answers(records, task):
        answered.add(judged.record.key[:3])
        there = row(judged.record, judged.variant)
        there.count += add(there.score, judged)
    missing: set[tuple[str, str, str]] = set()
    for record in records:
        if record.sample.task is not task or record.failure is None:
            continue
        nobody = DETECT if record.call == DETECT else COARSE
        if record.refiner != NONE:
            row(record, record.refiner).failed += 1
        if record.key[:3] not in answered | missing:
            missing.add(record.key[:3])
            if record.refiner == NONE or nobody == COARSE:
                row(record, nobody).failed += 1
    return sorted(rows.values(), key=lambda row: (row.group, row.variant != COARSE, row.variant))


def true_mask(sample: Sample) -> Mask:
    """Return the truth of a referring sample, bool [height, width]."""
    return decode_rle(sample.masks[0])


def true_box(sample: Sample) -> Box | None:
    """Return the annotated box of a referring sample, or the one round its mask; None without a target."""
    return sample.box or box_of(true_mask(sample))
