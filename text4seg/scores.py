"""Scores from the probabilities with which the model wrote its text.

A run ``{label} *{n}`` is two decisions of the model: the label, then the length given the label.

    label probability  p_label = product of the probabilities of the label's tokens
    count probability  p_count = product of the probabilities of the count's tokens

The first patch of the run carries the label whatever the length turns out to be (it is at least 1). A patch
at offset k of a run of length n carries it as well with probability p_count (the length is right); of the
remaining 1 - p_count, on the simplest assumption that a wrong length is as likely to stop before any of the
n patches, a share 1 - k/n still reaches it:

    p(k) = p_label * (p_count + (1 - p_count) * (1 - k / n))

So a patch's probability falls towards the end of its run, never rises, is p_label where the length does not
matter, and grows with both p_label and p_count. Without counts (full-length codec) it is p_label.

Patches that the text does not describe have ``UNKNOWN_PROBABILITY``.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import Decoding, LabelGrid

UNKNOWN_PROBABILITY = 0.5
"""Probability of the label of a patch that the model's text says nothing about."""

_EPSILON = 1e-6  # keeps logits finite


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of the model's text.

    Attributes:
        begin: character offset where the token begins, in the text that was decoded.
        end: offset where it ends; equal to ``begin`` when it completes no character.
        logprob: natural logarithm of its probability among the tokens the model could write; 0.0 when it
            was forced.
    """

    begin: int
    end: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of probabilities: ``sigmoid(logit(p) / temperature + bias)``.

    Source: Platt 1999; Guo et al., "On calibration of modern neural networks", 2017, for the temperature.
    The default changes nothing.

    Attributes:
        temperature: above 1 makes probabilities less extreme; greater than 0.
        bias: added to the logit.

    Raises:
        ValueError: when the temperature is not a finite number above 0, or the bias is not finite.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (math.isfinite(self.temperature) and self.temperature > 0 and math.isfinite(self.bias)):
            raise ValueError(f"cannot calibrate with temperature {self.temperature} and bias {self.bias}")

    def apply(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities, float64 of the same shape."""
        if self == IDENTITY:
            return probabilities
        clipped = np.clip(probabilities, _EPSILON, 1.0 - _EPSILON)
        logits = (np.log(clipped) - np.log1p(-clipped)) / self.temperature + self.bias
        # The logistic function without overflow: sigmoid(x) = (1 + tanh(x / 2)) / 2.
        calibrated: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))
        return calibrated


IDENTITY = Calibration()
"""Changes nothing."""


@dataclass(frozen=True, slots=True)
class Calibrations:
    """Of the probabilities that come with an answer, each fitted on its own.

    Attributes:
        cells: of what each patch is called.
        regions: of a region's score.
        nothing: of the no-target score.
    """

    cells: Calibration = IDENTITY
    regions: Calibration = IDENTITY
    nothing: Calibration = IDENTITY

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Calibrations:
        """Read what a checkpoint says: temperature and bias of cells, and below "regions" and "nothing".

        Raises:
            TypeError, ValueError, AttributeError: it is something else, or cannot be.
        """
        parts = (entry, entry.get("regions") or {}, entry.get("nothing") or {})
        return cls(
            *(
                Calibration(float(part.get("temperature", 1.0)), float(part.get("bias", 0.0)))
                for part in parts
            )
        )


def patch_probabilities(
    decoding: Decoding, tokens: Sequence[TokenLogprob], calibration: Calibration = IDENTITY
) -> NDArray[np.float64]:
    """Return the probability that each patch carries the label it was given.

    Args:
        decoding: the decoded text.
        tokens: its tokens in order, with offsets in the same text as the decoding's spans. A token that
            touches a label counts for the label, any other that touches the count counts for the count.
        calibration: applied to every patch that the text describes.

    Returns:
        float64 [rows, cols] in 0..1. Patches without a run, or whose run no token covers, have
        ``UNKNOWN_PROBABILITY``.
    """
    probabilities = np.full(decoding.grid.cells.size, UNKNOWN_PROBABILITY)
    cols = decoding.grid.shape[1]
    ends = [max(token.end, token.begin + 1) for token in tokens]
    for run in decoding.runs:
        in_label = _touching(tokens, ends, run.label_span)
        in_count = range(0) if run.count_span is None else _touching(tokens, ends, run.count_span)
        if not in_label:
            continue
        label = _probability(tokens[index] for index in in_label)
        count = _probability(tokens[index] for index in in_count if index not in in_label)
        reached = count + (1.0 - count) * (1.0 - np.arange(run.length) / run.length)
        first = run.row * cols + run.start
        probabilities[first : first + run.length] = calibration.apply(label * reached)
    return probabilities.reshape(decoding.grid.shape)


def _touching(tokens: Sequence[TokenLogprob], ends: Sequence[int], span: tuple[int, int]) -> range:
    """Return the indexes of the tokens that share a character with a span."""
    begin, end = span
    return range(bisect_right(ends, begin), bisect_left(tokens, end, key=lambda token: token.begin))


def _probability(tokens: Iterable[TokenLogprob]) -> float:
    """Multiply; rounding may leave log-probabilities slightly above 0, and NaN counts as impossible."""
    total = sum(token.logprob for token in tokens)
    return 0.0 if math.isnan(total) else math.exp(min(total, 0.0))


def label_probabilities(
    grid: LabelGrid, probabilities: NDArray[np.float64], label: str
) -> NDArray[np.float64]:
    """Return the probability that each patch carries one label: the confidence map of that label.

    Where the patch was given another label, what that label leaves over is shared equally by all others of
    the table; with one label and ``others`` this is exact.

    Args:
        grid: the decoded grid.
        probabilities: float64 [rows, cols] from :func:`patch_probabilities`.
        label: a label of the grid's table.

    Returns:
        float64 [rows, cols] in 0..1.

    Raises:
        KeyError: when the label is not in the grid's table.
    """
    share = (1.0 - probabilities) / max(len(grid.labels) - 1, 1)
    return np.where(grid.mask(label), probabilities, share)


def region_score(
    foreground: NDArray[np.float64],
    mask: NDArray[np.bool_],
    label: NDArray[np.bool_],
    calibration: Calibration = IDENTITY,
) -> float:
    """Return the score of a region: the intersection over union that it is expected to have, calibrated.

    Of the region's patches as many are expected to be right as their probabilities add up to, and of the
    patches that were given another label as many to be missing: ``sum inside / (patches + sum outside)``.
    The mean inside alone tells little: it is high for a few sure patches beside many that were nearly found.

    Args:
        foreground: float64 [rows, cols], the probability that each patch carries the label, from
            :func:`label_probabilities`.
        mask: bool [rows, cols], the region's patches.
        label: bool [rows, cols], all patches of the label; those of its other regions count for nothing.
        calibration: applied to the ratio.

    Returns:
        0..1; 0.0 when the region is empty.
    """
    patches = int(mask.sum())
    expected = float(foreground[mask].sum()) / max(patches + float(foreground[~label].sum()), 1.0)
    return float(calibration.apply(np.array(expected))) if patches else 0.0


def no_target_score(
    grid: LabelGrid, probabilities: NDArray[np.float64], calibration: Calibration = IDENTITY
) -> float:
    """Return the probability that the image holds nothing that was asked for.

    This is 1 minus the foreground probability of the most foreground-like patch: a found region makes it
    small, and in an empty answer it is the probability of the least certain ``others``. It would be exact if
    the patches depended on each other fully; the product over all patches, exact if they did not at all,
    would call every empty answer of a few hundred patches improbable.

    Args:
        grid: the decoded grid.
        probabilities: float64 [rows, cols] from :func:`patch_probabilities`.
        calibration: applied to the score.
    """
    foreground = np.where(grid.cells == 0, 1.0 - probabilities, probabilities)
    return float(calibration.apply(np.array(1.0 - foreground.max())))
