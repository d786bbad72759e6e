"""Measures of predicted masks and boxes against the truth.

An accumulator takes one sample at a time, ``add(prediction, truth)``, and answers ``result()`` at any
moment; before the first sample (or where nothing was counted) the result is NaN, never 0 or 1.
Masks are bool [height, width]; prediction and truth have the same shape.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import Box


def iou(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, 1 when both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    intersection, union = _overlap(prediction, truth)
    return intersection / union if union else 1.0


def box_iou(prediction: Box | None, truth: Box | None) -> float:
    """Intersection over union of two boxes; None is an empty box, and two empty boxes agree (1)."""
    if prediction is None or truth is None:
        return float(prediction is truth)
    width = min(prediction.x1, truth.x1) - max(prediction.x0, truth.x0)
    height = min(prediction.y1, truth.y1) - max(prediction.y0, truth.y0)
    intersection = max(width, 0) * max(height, 0)
    return intersection / (prediction.area + truth.area - intersection)


class CumulativeIoU:
    """cIoU: the sum of intersections over the sum of unions, so large objects weigh more.

    A no-target sample that is answered with a mask adds that mask to the union; one that is answered with
    nothing adds nothing. (gRefCOCO, "GRES: Generalized Referring Expression Segmentation", 2023.)
    """

    def __init__(self) -> None:
        self._intersection = 0
        self._union = 0

    def add(self, prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Count one sample.

        Raises:
            ValueError: the shapes differ.
        """
        intersection, union = _overlap(prediction, truth)
        self._intersection += intersection
        self._union += union

    def result(self) -> float:
        """Return the ratio, 0 to 1, or NaN while no sample had a pixel in either mask."""
        return _ratio(self._intersection, self._union)


class GeneralizedIoU:
    """gIoU: the mean of the samples' IoU, which is 1 where both masks are empty.

    (gRefCOCO's gIoU, not the box measure of that name.)
    """

    def __init__(self) -> None:
        self._total = 0.0
        self._samples = 0

    def add(self, prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Count one sample.

        Raises:
            ValueError: the shapes differ.
        """
        self._total += iou(prediction, truth)
        self._samples += 1

    def result(self) -> float:
        """Return the mean, 0 to 1, or NaN before the first sample."""
        return _ratio(self._total, self._samples)


class MeanIoU:
    """mIoU of semantic segmentation: IoU of each class over all pixels, then the mean over classes.

    Pixels that are void in the truth count for nothing. On the others, a prediction that is no class (void
    or any other number) is simply wrong: it adds to the union of the true class only.
    """

    def __init__(self, classes: int, void: int | None = 255) -> None:
        """Start counting.

        Args:
            classes: number of classes, numbered from 0.
            void: truth value of pixels to ignore, outside the classes; None if there is none.

        Raises:
            ValueError: no class, or void is the number of a class.
        """
        if classes < 1 or (void is not None and 0 <= void < classes):
            raise ValueError("there must be a class, and void must not be one")
        self._classes = classes
        self._void = void
        # Rows are true classes; the last column takes predictions that are no class.
        self._confusion = np.zeros((classes, classes + 1), dtype=np.int64)

    def add(self, prediction: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]]) -> None:
        """Count one image: two integer arrays [height, width] of class numbers.

        Raises:
            ValueError: the shapes differ, or a truth value is neither a class nor void.
        """
        _check_shapes(prediction, truth)
        counted = np.ones(truth.shape, dtype=np.bool_) if self._void is None else truth != self._void
        true = truth[counted].astype(np.int64)
        if true.size and (true.min() < 0 or true.max() >= self._classes):
            raise ValueError("a truth value is neither a class nor void")
        guess = prediction[counted].astype(np.int64)
        guess = np.where((guess >= 0) & (guess < self._classes), guess, self._classes)
        cells = np.bincount(true * (self._classes + 1) + guess, minlength=self._confusion.size)
        self._confusion += cells.reshape(self._confusion.shape)

    def per_class(self) -> NDArray[np.float64]:
        """Return the IoU of each class, [classes]; NaN for one in neither prediction nor truth."""
        intersection = np.diagonal(self._confusion)
        union = self._confusion.sum(axis=1) + self._confusion[:, :-1].sum(axis=0) - intersection
        return np.divide(intersection, union, out=np.full(self._classes, np.nan), where=union > 0)

    def result(self) -> float:
        """Return the mean over the classes that occur, 0 to 1, or NaN if none does."""
        occurring = self.per_class()
        occurring = occurring[~np.isnan(occurring)]
        return _ratio(float(occurring.sum()), occurring.size)


class BoxAccuracy:
    """Acc@0.5: the share of boxes whose IoU with the truth is strictly above the threshold."""

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self._hits = 0
        self._samples = 0

    def add(self, prediction: Box | None, truth: Box | None) -> None:
        """Count one sample; None is "nothing there" and is right only where the truth is None."""
        self._hits += box_iou(prediction, truth) > self._threshold
        self._samples += 1

    def result(self) -> float:
        """Return the share, 0 to 1, or NaN before the first sample."""
        return _ratio(self._hits, self._samples)


class NoTargetResult(NamedTuple):
    """The two accuracies of :class:`NoTargetAccuracy`, each NaN where no sample was of its kind."""

    n_acc: float
    t_acc: float


class NoTargetAccuracy:
    """N-acc and T-acc of gRefCOCO, where "positive" means that nothing is there.

    N-acc = TP / (TP + FN): of the samples without a target, the share answered with nothing.
    T-acc = TN / (TN + FP): of the samples with a target, the share answered with something, however wrong.
    """

    def __init__(self) -> None:
        self._true_positive = 0
        self._false_negative = 0
        self._true_negative = 0
        self._false_positive = 0

    def add(self, prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Count one sample; a mask without a foreground pixel is "nothing".

        Raises:
            ValueError: the shapes differ.
        """
        _check_shapes(prediction, truth)
        found, present = bool(prediction.any()), bool(truth.any())
        self._true_positive += not found and not present
        self._false_negative += found and not present
        self._true_negative += found and present
        self._false_positive += not found and present

    def result(self) -> NoTargetResult:
        """Return (n_acc, t_acc), each 0 to 1 or NaN."""
        return NoTargetResult(
            n_acc=_ratio(self._true_positive, self._true_positive + self._false_negative),
            t_acc=_ratio(self._true_negative, self._true_negative + self._false_positive),
        )


def boundary_f_score(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: float = 0.008
) -> float:
    """F-measure of the boundaries of two masks (the F of the DAVIS benchmark, Perazzi et al. 2016).

    A boundary pixel counts as matched when the other mask has a boundary pixel within
    ceil(tolerance x diagonal) pixels, by Euclidean distance. Boundary pixels are those that differ from
    their right, lower or lower-right neighbour; the image's edge is no boundary.

    Args:
        prediction: bool [height, width].
        truth: bool [height, width].
        tolerance: share of the image's diagonal; not negative.

    Returns:
        0 to 1. Where neither mask has a boundary (empty or full), 1 if they are equal and 0 otherwise.

    Raises:
        ValueError: the shapes differ, or the tolerance is negative.
    """
    _check_shapes(prediction, truth)
    if tolerance < 0:
        raise ValueError("tolerance must not be negative")
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    predicted, true = _boundary(prediction), _boundary(truth)
    predicted_pixels, true_pixels = np.count_nonzero(predicted), np.count_nonzero(true)
    if not predicted_pixels and not true_pixels:
        return float(np.array_equal(prediction, truth))
    if not predicted_pixels or not true_pixels:
        return 0.0
    precision = _matched(predicted, true, radius) / predicted_pixels
    recall = _matched(true, predicted, radius) / true_pixels
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    extended = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, lower, diagonal = extended[:-1, 1:], extended[1:, :-1], extended[1:, 1:]
    differs: NDArray[np.bool_] = (mask != right) | (mask != lower) | (mask != diagonal)
    return differs


def _matched(pixels: NDArray[np.bool_], others: NDArray[np.bool_], radius: int) -> int:
    """How many of `pixels` have one of `others` within a disc: one look at row sums per row of the disc."""
    height, width = others.shape
    sums = np.zeros((height, width + 1), dtype=np.int32)
    np.cumsum(others, axis=1, out=sums[:, 1:])
    rows, columns = np.nonzero(pixels)
    near = np.zeros(rows.size, dtype=np.bool_)
    for shift in range(-radius, radius + 1):
        reach = math.isqrt(radius * radius - shift * shift)
        row = np.clip(rows + shift, 0, height - 1)
        begin, end = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
        near |= (row == rows + shift) & (sums[row, end] > sums[row, begin])
    return int(np.count_nonzero(near))


def _overlap(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    _check_shapes(prediction, truth)
    return int(np.count_nonzero(prediction & truth)), int(np.count_nonzero(prediction | truth))


def _check_shapes(prediction: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
