"""Scalings that make a model's probabilities more believable."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from text4seg.descriptors import OTHERS, LabelGrid
from text4seg.masks import upsample
from text4seg.metrics import iou
from text4seg.scores import Calibration, Calibrations, label_probabilities, no_target_score, region_score
from training.judging.calibration import REGION_IOU, calibration_error, centres
from training.nano.asking import Answer, Item

Told = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Probabilities, and what came true."""


LEAST_SLOPE = 0.01
"""Of a calibration: a surer answer is never called less likely to be right."""


def fit_calibration(told: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Return the scaling under which what was seen is likeliest.

    Where surer answers are right less often, that is the share of right ones, nearly the same for all.
    """
    clipped = torch.from_numpy(told.clip(1e-6, 1 - 1e-6))
    logits, seen = torch.logit(clipped), torch.from_numpy(right.astype(np.float64))
    slope, bias = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def fitted(*parameters: torch.Tensor) -> None:
        optimizer = torch.optim.LBFGS([one.requires_grad_() for one in parameters], max_iter=100)

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = functional.binary_cross_entropy_with_logits(logits * slope + bias, seen)
            torch.autograd.backward(value)
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    fitted(slope, bias)
    if slope.item() < LEAST_SLOPE:
        slope, bias = torch.full_like(slope, LEAST_SLOPE), torch.zeros_like(bias)
        fitted(bias)
    return Calibration(round(1 / slope.item(), 3), round(bias.item(), 3))


def cells_told(answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int]) -> Told:
    """Return how sure answers were of what each cell is called, and whether it is that."""
    right = [centres(item.truth, shape) == answer.mask for item, answer in answers]
    told = np.concatenate([answer.confidence.ravel() for _, answer in answers])
    return told, np.concatenate(right, axis=None)


def regions_told(answers: Sequence[tuple[Item, Answer]]) -> Told:
    """Return the scores of the regions that were found, and whether they are the right ones."""
    told, right = [], []
    for item, answer in answers:
        if answer.mask.any():
            foreground = label_probabilities(grid_of(item, answer), answer.confidence, item.phrase)
            told.append(region_score(foreground, answer.mask, answer.mask))
            mask = upsample(answer.mask, (item.truth.shape[0], item.truth.shape[1]))
            right.append(iou(mask, item.truth) > REGION_IOU)
    return np.array(told), np.array(right, bool)


def nothing_told(answers: Sequence[tuple[Item, Answer]]) -> Told:
    """Return the no-target scores of answers, and whether nothing was there."""
    told = [no_target_score(grid_of(item, answer), answer.confidence) for item, answer in answers]
    return np.array(told), np.array([not item.truth.any() for item, _ in answers])


def grid_of(item: Item, answer: Answer) -> LabelGrid:
    """Return an answer as a grid of labels."""
    return LabelGrid((OTHERS, item.phrase), answer.mask.astype(np.int16))


def calibration_figures(
    answers: Sequence[tuple[Item, Answer]], shape: tuple[int, int], draw: random.Random
) -> tuple[dict[str, float], Calibrations]:
    """Fit the calibrations to one half of the answers; return their errors on the other half, and without."""
    shuffled = draw.sample(list(answers), len(answers))
    half, other = shuffled[::2], shuffled[1::2]
    figures: dict[str, float] = {}
    fitted: list[Calibration] = []
    for name, told_by in (
        ("calibration error", partial(cells_told, shape=shape)),
        ("calibration error, regions", regions_told),
        ("calibration error, nothing there", nothing_told),
    ):
        fitted.append(fit_calibration(*told_by(half)))
        told, right = told_by(other)
        figures[name] = calibration_error(fitted[-1].apply(told), right)
        figures[f"{name} uncalibrated"] = calibration_error(told, right)
    return figures, Calibrations(*fitted)


def write_calibration(checkpoint: Path, calibrations: Calibrations) -> None:
    """Write the calibrations into the checkpoint's ``config.json``, where serving reads them."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    written = asdict(calibrations)
    config["text4seg"]["calibration"] = {**written.pop("cells"), **written}
    file.write_text(json.dumps(config, indent=2) + "\n")
