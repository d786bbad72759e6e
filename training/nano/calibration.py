"""Scalings that make a model's probabilities more believable."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from text4seg.descriptors import OTHERS, LabelGrid
from text4seg.masks import upsample
from text4seg.metrics import iou
from text4seg.scores import IDENTITY, Calibration, Calibrations, mask_score, no_target_score
from training.judging.calibration import REGION_IOU, calibration_error, centres
from training.nano.asking import Answer, Item

Told = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Probabilities, and what came true."""


def fit_calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Return the scaling under which what was seen is likeliest."""
    clipped = torch.from_numpy(confidence.clip(1e-6, 1 - 1e-6))
    logits, seen = torch.logit(clipped), torch.from_numpy(right.astype(np.float64))
    inverse, bias = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([inverse.requires_grad_(), bias.requires_grad_()], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(logits * inverse + bias, seen)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Calibration(round(1 / max(inverse.item(), 1e-2), 3), round(bias.item(), 3))


def cells_told(answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int]) -> Told:
    """Return how sure answers were of what each cell is called, and whether it is that."""
    right = [centres(item.truth, shape) == answer.mask for item, answer in answers]
    told = np.concatenate([answer.confidence.ravel() for _, answer in answers])
    return told, np.concatenate(right, axis=None)


def regions_told(answers: Sequence[tuple[Item, Answer]], cells: Calibration) -> Told:
    """Return the scores of the regions that were found, and whether they are the right ones."""
    told, right = [], []
    for item, answer in answers:
        if answer.mask.any():
            told.append(mask_score(cells.apply(answer.confidence), answer.mask))
            mask = upsample(answer.mask, (item.truth.shape[0], item.truth.shape[1]))
            right.append(iou(mask, item.truth) > REGION_IOU)
    return np.array(told), np.array(right, bool)


def nothing_told(answers: Sequence[tuple[Item, Answer]], cells: Calibration) -> Told:
    """Return the no-target scores of answers, and whether nothing was there."""
    told = []
    for item, answer in answers:
        grid = LabelGrid((OTHERS, item.phrase), answer.mask.astype(np.int16))
        told.append(no_target_score(grid, cells.apply(answer.confidence)))
    return np.array(told), np.array([not item.truth.any() for item, _ in answers])


def calibration_figures(
    answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int], draw: random.Random
) -> tuple[dict[str, float], Calibrations]:
    """Fit the calibrations to one half of the answers; return their errors on the other half, and without."""
    shuffled = draw.sample(list(answers), len(answers))
    half, other = shuffled[::2], shuffled[1::2]
    cells = fit_calibration(*cells_told(half, shape))
    fitted = Calibrations(
        cells, fit_calibration(*regions_told(half, cells)), fit_calibration(*nothing_told(half, cells))
    )
    figures: dict[str, float] = {}
    for name, calibration, (told, right), (before, right_before) in (
        ("calibration error", fitted.cells, cells_told(other, shape), cells_told(other, shape)),
        ("regions", fitted.regions, regions_told(other, cells), regions_told(other, IDENTITY)),
        ("nothing there", fitted.nothing, nothing_told(other, cells), nothing_told(other, IDENTITY)),
    ):
        title = name if name == "calibration error" else f"calibration error, {name}"
        figures[title] = calibration_error(calibration.apply(told), right)
        figures[f"{title} uncalibrated"] = calibration_error(before, right_before)
    return figures, fitted


def write_calibration(checkpoint: Path, calibrations: Calibrations) -> None:
    """Write the calibrations into the checkpoint's ``config.json``, where serving reads them."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    written = asdict(calibrations)
    config["text4seg"]["calibration"] = {**written.pop("cells"), **written}
    file.write_text(json.dumps(config, indent=2) + "\n")
