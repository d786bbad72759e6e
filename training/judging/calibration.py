"""How far the probabilities can be believed that come with answers."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import to_grid
from text4seg.metrics import iou
from training.datasets.sample import Task
from training.judging.record import Record
from training.judging.tables import Table
from training.judging.variants import COARSE, DETECT, judged_answers, true_mask

BINS = 15
REGION_IOU = 0.5
"""IoU above which a region counts as right."""


def calibration(records: Iterable[Record]) -> Table:
    """Calibration error: how far the probabilities that the service tells can be believed."""
    cells: tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]] = ([], [])
    regions: tuple[list[float], list[bool]] = ([], [])
    nothing: tuple[list[float], list[bool]] = ([], [])
    for judged in judged_answers(records, Task.REFERRING):
        if judged.variant not in (COARSE, DETECT):
            continue
        answer, truth = judged.answer, true_mask(judged.record.sample)
        nothing[0].append(answer.no_target)
        nothing[1].append(not truth.any())
        if judged.record.call == DETECT or not answer.found:
            continue
        mask = judged.mask()
        regions[0].append(answer.found[0].score)
        regions[1].append(iou(mask, truth) > REGION_IOU)
        confidence = answer.found[0].cells(answer.shape)
        if confidence is not None:
            cells[0].append(confidence.ravel())
            cells[1].append(centres(truth, answer.shape).ravel())
    table = []
    for name, told, right in (
        ("a cell carries the label", _joined(cells[0]), _joined(cells[1])),
        (f"a region's IoU is above {REGION_IOU}", np.array(regions[0]), np.array(regions[1], float)),
        ("nothing matches the phrase", np.array(nothing[0]), np.array(nothing[1], float)),
    ):
        if told.size:
            error = calibration_error(told, right)
            table.append((name, int(told.size), float(told.mean()), float(right.mean()), error))
    return Table(
        "calibration",
        "calibration",
        ("that", "judged", "mean probability", "true share", "calibration error"),
        tuple(table),
        (
            f"Expected calibration error, {BINS} bins weighted by size, before refinement. Cells are those "
            "of the answers that found something; the truth of a cell is the pixel at its centre.",
        ),
    )


def calibration_error(told: NDArray[np.float64], right: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """Return the expected calibration error of probabilities (Guo et al. 2017); NaN without any.

    Args:
        told: Probabilities, 0 to 1, [n].
        right: What came true, [n]: 1 or 0.
    """
    if not told.size:
        return float("nan")
    bins = np.minimum((told * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, told - right, minlength=BINS)
    return float(np.abs(gaps).sum() / told.size)


def centres(truth: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return what is true at the centre of each cell, bool [rows, columns]."""
    return to_grid(truth, shape, "nearest")


def _joined(parts: list[NDArray[np.float64]] | list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    return np.concatenate([part.astype(np.float64) for part in parts]) if parts else np.zeros(0)
