"""Which answers to look at: the worst and the best of a run."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from text4seg.masks import mask_area
from text4seg.metrics import box_iou, iou
from training.datasets.sample import Task
from training.judging.record import NONE, Answer, Record
from training.judging.suites import ClassScore, plain
from training.judging.variants import COARSE, DETECT, Judged, true_box, true_mask


@dataclass(frozen=True, slots=True)
class Case:
    """An answer with its score, 0 to 1.

    Attributes:
        record: The record.
        answer: Its answer.
        score: IoU of masks or boxes, mean IoU of the picture's classes, or the share of right answers.
        weight: How much of the picture is at stake; among equals the heaviest come first.
    """

    record: Record
    answer: Answer
    score: float
    weight: float


def scored_cases(records: Iterable[Record], refiner: str) -> Iterator[Case]:
    """Yield every answer that was asked with a refiner (or with none), and every dialogue, with its score."""
    for record in records:
        answer = record.answer
        if answer is None or record.refiner not in (refiner, NONE):
            continue
        dialogue = record.sample.task is Task.DIALOGUE
        if record.refiner == refiner or dialogue:
            variant = COARSE if refiner == NONE or dialogue else refiner
            yield Case(record, answer, *_score(Judged(record, answer, variant)))


def worst_cases(records: Iterable[Record], refiner: str, count: int) -> list[Case]:
    """Return the answers of lowest score, the largest targets first among equals."""
    cases = scored_cases(records, refiner)
    return heapq.nsmallest(count, cases, key=lambda case: (case.score, -case.weight))


def best_cases(records: Iterable[Record], refiner: str, count: int) -> list[Case]:
    """Return the answers of highest score, things that are there first: "nothing" is easily said."""
    cases = scored_cases(records, refiner)
    return heapq.nlargest(count, cases, key=lambda case: (case.weight > 0, case.score, case.weight))


def _score(judged: Judged) -> tuple[float, float]:
    record = judged.record
    match record.sample.task:
        case Task.DIALOGUE:
            exchanges = judged.answer.exchanges
            right = [plain(turn.answer) == plain(turn.truth) for turn in exchanges]
            return float(np.mean(right)), 0.0
        case Task.SEMANTIC:
            score = ClassScore(record)
            score.add(judged)
            ious = score.per_class()
            seen = ious[~np.isnan(ious)]
            return (float(seen.mean()) if seen.size else 1.0), 1.0
        case Task.REFERRING:
            truth = true_mask(record.sample)
            weight = mask_area(truth) / truth.size
            if record.call == DETECT:
                return box_iou(judged.box(), true_box(record.sample)), weight
            mask = judged.mask()
            return iou(mask, truth), weight or mask_area(mask) / truth.size
