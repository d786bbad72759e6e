"""Our measures agree with pycocotools, scikit-learn and torchmetrics on random masks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score
from torchmetrics.classification import (
    BinaryCalibrationError,
    BinaryJaccardIndex,
    MulticlassJaccardIndex,
)

from text4seg.masks import Box, box_of
from text4seg.metrics import (
    BoxAccuracy,
    CumulativeIoU,
    GeneralizedIoU,
    MeanIoU,
    NoTargetAccuracy,
    box_iou,
    iou,
)
from training.judging.calibration import calibration_error

Mask = NDArray[np.bool_]
SEEDS = range(5)


def random_pairs(seed: int, count: int = 12) -> list[tuple[Mask, Mask]]:
    """Rectangles and noise of several sizes, some empty, some full."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        height, width = rng.integers(1, 40, 2)
        pair = []
        for _ in range(2):
            mask = np.zeros((height, width), bool)
            match rng.integers(4):
                case 0:
                    mask = rng.random((height, width)) < rng.random()
                case 1:
                    y0, y1 = np.sort(rng.integers(0, height + 1, 2))
                    x0, x1 = np.sort(rng.integers(0, width + 1, 2))
                    mask[y0:y1, x0:x1] = True
                case 2:
                    mask[:] = True
            pair.append(mask)
        pairs.append((pair[0], pair[1]))
    return pairs


def encoded(mask: Mask) -> dict[str, object]:
    rle: dict[str, object] = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle


@pytest.mark.parametrize("seed", SEEDS)
def test_iou_is_pycocotools(seed: int) -> None:
    for prediction, truth in random_pairs(seed):
        if prediction.any() or truth.any():  # COCO has no opinion about two empty masks
            theirs = coco.iou([encoded(prediction)], [encoded(truth)], [0])[0, 0]
            assert iou(prediction, truth) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_iou_is_scikit_learns_jaccard_score(seed: int) -> None:
    for prediction, truth in random_pairs(seed):
        theirs = jaccard_score(truth.ravel(), prediction.ravel(), zero_division=1.0)
        assert iou(prediction, truth) == pytest.approx(theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_ciou_is_the_jaccard_index_of_all_pixels_together(seed: int) -> None:
    ours, theirs = CumulativeIoU(), BinaryJaccardIndex()
    pairs = random_pairs(seed)
    for prediction, truth in pairs:
        ours.add(prediction, truth)
        theirs.update(torch.from_numpy(prediction.ravel()).int(), torch.from_numpy(truth.ravel()).int())
    assert ours.result() == pytest.approx(float(theirs.compute()), abs=1e-6)
    flat = [np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1)]
    assert ours.result() == pytest.approx(jaccard_score(flat[1], flat[0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_giou_is_the_mean_jaccard_score(seed: int) -> None:
    ours = GeneralizedIoU()
    theirs = []
    for prediction, truth in random_pairs(seed):
        ours.add(prediction, truth)
        theirs.append(jaccard_score(truth.ravel(), prediction.ravel(), zero_division=1.0))
    assert ours.result() == pytest.approx(np.mean(theirs))


@pytest.mark.parametrize("seed", SEEDS)
def test_box_iou_and_accuracy_are_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours = BoxAccuracy()
    hits = []
    for _ in range(40):
        boxes = []
        for _ in range(2):
            x0, y0, width, height = (int(value) for value in rng.integers(1, 20, 4))
            boxes.append(Box(x0, y0, x0 + width, y0 + height))
        ours.add(boxes[0], boxes[1])
        theirs = coco.iou(
            *(np.array([[box.x0, box.y0, box.width, box.height]], float) for box in boxes), [0]
        )[0, 0]
        assert box_iou(boxes[0], boxes[1]) == pytest.approx(theirs)
        hits.append(theirs > 0.5)
    assert ours.result() == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("seed", SEEDS)
def test_mask2box_is_pycocotools(seed: int) -> None:
    for mask, _ in random_pairs(seed):
        x, y, width, height = coco.toBbox(encoded(mask))
        ours = box_of(mask)
        assert (ours or (0, 0, 0, 0)) == ((x, y, x + width, y + height) if mask.any() else (0, 0, 0, 0))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_target_accuracies_are_recalls(seed: int) -> None:
    ours = NoTargetAccuracy()
    pairs = [*random_pairs(seed, 60), (np.zeros((2, 2), bool), np.zeros((2, 2), bool))]
    for prediction, truth in pairs:
        ours.add(prediction, truth)
    nothing = [[not pair[side].any() for pair in pairs] for side in (0, 1)]
    assert ours.result().n_acc == pytest.approx(recall_score(nothing[1], nothing[0], pos_label=True))
    assert ours.result().t_acc == pytest.approx(recall_score(nothing[1], nothing[0], pos_label=False))
    confusion = confusion_matrix(nothing[1], nothing[0])
    both = ours.result()
    share = (both.n_acc * confusion[1].sum() + both.t_acc * confusion[0].sum()) / confusion.sum()
    assert share == pytest.approx(accuracy_score(nothing[1], nothing[0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_miou_is_torchmetrics_and_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, void = 6, 255
    ours = MeanIoU(classes, void)
    theirs = MulticlassJaccardIndex(classes, average="none", ignore_index=void)
    everything: list[list[NDArray[np.int64]]] = [[], []]
    for _ in range(6):
        shape = tuple(rng.integers(1, 30, 2))
        truth, prediction = rng.integers(0, classes, shape), rng.integers(0, classes, shape)
        truth[rng.random(shape) < 0.2] = void
        ours.add(prediction, truth)
        theirs.update(torch.from_numpy(prediction).ravel(), torch.from_numpy(truth).ravel())
        for kept, values in zip(everything, (prediction, truth), strict=True):
            kept.append(values[truth != void])
    assert ours.per_class() == pytest.approx(theirs.compute().numpy(), abs=1e-6)
    flat = [np.concatenate(part) for part in everything]
    assert ours.result() == pytest.approx(jaccard_score(flat[1], flat[0], average="macro"))


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_is_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = rng.random(500)
    right = rng.random(500) < told**2
    theirs = BinaryCalibrationError(n_bins=15, norm="l1")
    # Theirs wants the probability of being right and whether it was.
    value = theirs(torch.from_numpy(told), torch.from_numpy(right.astype(np.int64)))
    assert calibration_error(told, right) == pytest.approx(float(value), abs=1e-6)
