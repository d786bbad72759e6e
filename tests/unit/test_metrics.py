import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco
from scipy import ndimage

from text4seg.masks import Box, box_of
from text4seg.metrics import (
    BoxAccuracy,
    CumulativeIoU,
    GeneralizedIoU,
    MeanIoU,
    NoTargetAccuracy,
    boundary_f_score,
    box_iou,
    iou,
)

PAIRS = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(arrays.arrays(np.bool_, shape), arrays.arrays(np.bool_, shape))
)
EMPTY = np.zeros((4, 5), dtype=np.bool_)


def block(rows, columns):
    mask = EMPTY.copy()
    mask[:rows, :columns] = True
    return mask


def coco_rle(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(PAIRS)
def test_iou_agrees_with_pycocotools(pair):
    prediction, truth = pair
    if prediction.any() or truth.any():
        theirs = coco.iou([coco_rle(prediction)], [coco_rle(truth)], [0])[0, 0]
        assert iou(prediction, truth) == pytest.approx(theirs, abs=1e-12)
    else:
        assert iou(prediction, truth) == 1


@given(PAIRS)
def test_box_iou_agrees_with_the_boxes_as_masks(pair):
    filled = []
    boxes = [box_of(mask) for mask in pair]
    for mask, box in zip(pair, boxes, strict=True):
        drawn = np.zeros_like(mask)
        if box:
            drawn[box.y0 : box.y1, box.x0 : box.x1] = True
        filled.append(drawn)
    assert box_iou(*boxes) == pytest.approx(iou(*filled), abs=1e-12)


def test_ciou_weighs_by_area_and_giou_by_sample():
    cumulative, generalized = CumulativeIoU(), GeneralizedIoU()
    for prediction, truth in [(block(4, 5), block(4, 5)), (block(1, 1), block(1, 2))]:
        cumulative.add(prediction, truth)
        generalized.add(prediction, truth)
    assert cumulative.result() == pytest.approx(21 / 22)
    assert generalized.result() == pytest.approx((1 + 0.5) / 2)


def test_a_missed_no_target_adds_its_prediction_to_the_union():
    cumulative, generalized = CumulativeIoU(), GeneralizedIoU()
    samples = [(block(2, 2), block(2, 2)), (EMPTY, EMPTY), (block(3, 2), EMPTY), (EMPTY, block(1, 3))]
    for prediction, truth in samples:
        cumulative.add(prediction, truth)
        generalized.add(prediction, truth)
    assert cumulative.result() == pytest.approx(4 / (4 + 0 + 6 + 3))
    assert generalized.result() == pytest.approx((1 + 1 + 0 + 0) / 4)


def test_no_target_accuracies_count_each_kind_on_its_own():
    accuracy = NoTargetAccuracy()
    samples = [(EMPTY, EMPTY)] * 3 + [(block(1, 1), EMPTY)]  # three of four absent ones noticed
    samples += [(block(1, 1), block(4, 5))] * 2 + [(EMPTY, block(1, 1))] * 3  # two of five answered
    for prediction, truth in samples:
        accuracy.add(prediction, truth)
    assert accuracy.result() == (3 / 4, 2 / 5)
    assert accuracy.result().n_acc == 3 / 4


def test_nothing_counted_is_nan():
    for empty in (CumulativeIoU(), GeneralizedIoU(), MeanIoU(3), BoxAccuracy()):
        assert math.isnan(empty.result())
    assert all(math.isnan(value) for value in NoTargetAccuracy().result())
    cumulative = CumulativeIoU()
    cumulative.add(EMPTY, EMPTY)
    assert math.isnan(cumulative.result())


def test_box_accuracy_is_strict_at_the_threshold():
    accuracy = BoxAccuracy()
    accuracy.add(Box(0, 0, 2, 1), Box(0, 0, 1, 1))  # exactly 0.5
    assert accuracy.result() == 0
    accuracy.add(Box(0, 0, 3, 1), Box(0, 0, 2, 1))
    assert accuracy.result() == 0.5
    accuracy.add(None, Box(0, 0, 2, 1))
    accuracy.add(None, None)
    assert accuracy.result() == 0.5
    assert box_iou(Box(0, 0, 2, 2), Box(3, 3, 5, 5)) == 0


LABEL_MAPS = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 9, 255])),
        arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])),
    )
)


@given(st.lists(LABEL_MAPS, min_size=1, max_size=3))
def test_mean_iou_is_the_mean_over_classes_of_all_pixels_but_void(images):
    mean_iou = MeanIoU(classes=4, void=255)
    for prediction, truth in images:
        mean_iou.add(prediction, truth)
    predictions = np.concatenate([prediction[truth != 255] for prediction, truth in images])
    truths = np.concatenate([truth[truth != 255] for _, truth in images])
    expected = []
    for index in range(4):
        union = np.count_nonzero((predictions == index) | (truths == index))
        if union:
            expected.append(np.count_nonzero((predictions == index) & (truths == index)) / union)
    assert np.isnan(mean_iou.per_class()).sum() == 4 - len(expected)
    if expected:
        assert mean_iou.result() == pytest.approx(np.mean(expected))
    else:
        assert math.isnan(mean_iou.result())


def test_mean_iou_without_void_counts_everything():
    mean_iou = MeanIoU(classes=2, void=None)
    mean_iou.add(np.array([[0, 1, 1, 1]]), np.array([[0, 0, 1, 1]]))
    assert mean_iou.per_class().tolist() == [1 / 2, 2 / 3]
    assert mean_iou.result() == pytest.approx(7 / 12)


def test_mean_iou_refuses_a_truth_it_does_not_know():
    for truth in (4, -1, 254):
        with pytest.raises(ValueError, match="neither a class nor void"):
            MeanIoU(classes=4).add(np.array([[0]]), np.array([[truth]]))
    for arguments in ({"classes": 0}, {"classes": 3, "void": 2}):
        with pytest.raises(ValueError, match="void"):
            MeanIoU(**arguments)


def boundary(mask):
    """The DAVIS benchmark's definition, pixel by pixel."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            result[y, x] = len({mask[y, x], mask[below, x], mask[y, right], mask[below, right]}) > 1
    return result


@given(PAIRS, st.sampled_from([0.0, 0.008, 0.1, 0.3, 2.0]))
def test_the_boundary_score_agrees_with_a_distance_transform(pair, tolerance):
    prediction, truth = pair
    score = boundary_f_score(prediction, truth, tolerance)
    predicted, true = boundary(prediction), boundary(truth)
    if not predicted.any() or not true.any():
        agree = not predicted.any() and not true.any() and np.array_equal(prediction, truth)
        assert score == agree
        return
    radius = math.ceil(tolerance * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    precision = (ndimage.distance_transform_edt(~true)[predicted] <= radius).mean()
    recall = (ndimage.distance_transform_edt(~predicted)[true] <= radius).mean()
    both = precision + recall
    assert score == pytest.approx(2 * precision * recall / both if both else 0)


def test_the_boundary_score_forgives_a_shift_within_its_tolerance_only():
    truth = np.zeros((300, 400), dtype=np.bool_)  # diagonal 500, so 0.008 is 4 pixels
    truth[100:200, 100:250] = True
    assert boundary_f_score(truth, truth, 0) == 1
    assert boundary_f_score(np.roll(truth, 4, axis=1), truth) == 1
    assert boundary_f_score(np.roll(truth, 6, axis=1), truth) < 0.7
    assert boundary_f_score(np.zeros_like(truth), truth) == 0
    assert boundary_f_score(np.ones_like(truth), np.zeros_like(truth)) == 0
    with pytest.raises(ValueError, match="tolerance"):
        boundary_f_score(truth, truth, -0.1)


def test_masks_of_different_shapes_are_refused_by_every_measure():
    other = np.zeros((5, 4), dtype=np.bool_)
    for measure in (iou, boundary_f_score, CumulativeIoU().add, GeneralizedIoU().add, NoTargetAccuracy().add):
        with pytest.raises(ValueError, match="differ in shape"):
            measure(EMPTY, other)
    with pytest.raises(ValueError, match="differ in shape"):
        MeanIoU(2).add(EMPTY.astype(int), other.astype(int))
