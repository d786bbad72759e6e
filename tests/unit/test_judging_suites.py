"""Each suite is a function of records; the expected figures are worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest

from tests.judging_records import (
    GRID,
    SIZE,
    answered,
    cells,
    described,
    detected,
    failed,
    rectangle,
    referring,
    semantic,
    talked,
)
from text4seg.masks import Box
from training.judging.ablations import codecs, refiners, resolution
from training.judging.calibration import calibration
from training.judging.record import Record
from training.judging.suites import (
    generalized_referring,
    open_vocabulary,
    plain,
    question_answering,
    referring_comprehension,
    referring_segmentation,
)
from training.judging.tables import Table

# On a picture of 40x60 with a grid of 4x6, a cell has 10x10 pixels.
LEFT = cells("##....", "##....", "......", "......")
NOTHING = np.zeros(GRID, bool)
EMPTY = np.zeros(SIZE, bool)
HALF = rectangle(0, 0, 20, 10)  # half of what LEFT marks
WHOLE = rectangle(0, 0, 20, 20)


def only(table: Table, **where: Any) -> dict[str, Any]:
    """The row of a table that has these cells."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    (row,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return row


def records() -> list[Record]:
    return [
        answered(referring(1, HALF), LEFT),
        answered(referring(2, WHOLE), LEFT),
        answered(referring(3, WHOLE), NOTHING),
        answered(referring(4, EMPTY), NOTHING),
        answered(referring(5, EMPTY), LEFT),
        failed(referring(6, WHOLE)),
    ]


def test_res_counts_phrases_that_match_something() -> None:
    row = only(referring_segmentation(records()), masks="coarse")
    assert (row["phrases"], row["failed"]) == (3, 1)
    assert row["cIoU"] == pytest.approx((200 + 400) / (400 + 400 + 400))
    assert row["gIoU"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert row["P@0.5"] == pytest.approx(1 / 3)  # 0.5 is not above 0.5


def test_gres_counts_no_targets_too() -> None:
    row = only(generalized_referring(records()), masks="coarse")
    assert (row["phrases"], row["no target"], row["failed"]) == (5, 2, 1)
    assert row["gIoU"] == pytest.approx((0.5 + 1 + 0 + 1 + 0) / 5)
    assert row["cIoU"] == pytest.approx(600 / (1200 + 0 + 400))
    assert row["N-acc"] == pytest.approx(1 / 2)
    assert row["T-acc"] == pytest.approx(2 / 3)


def test_rec_takes_the_box_round_the_mask_or_the_annotated_one() -> None:
    found = [
        answered(referring(1, WHOLE), LEFT),
        answered(referring(2, WHOLE, box=Box(40, 20, 60, 40)), LEFT),
        answered(referring(3, EMPTY), LEFT),
    ]
    row = only(referring_comprehension(found), masks="coarse")
    assert (row["phrases"], row["Acc@0.5"]) == (2, 0.5)


def test_rec_takes_the_best_box_of_detect() -> None:
    right, wrong = Box(0, 0, 20, 20), Box(30, 30, 60, 40)
    found = [
        detected(referring(1, WHOLE), (wrong, 0.3), (right, 0.8)),
        detected(referring(2, WHOLE), (wrong, 0.8), (right, 0.3)),
        detected(referring(3, WHOLE)),
    ]
    row = only(referring_comprehension(found), masks="detect")
    assert (row["phrases"], row["Acc@0.5"]) == (3, pytest.approx(1 / 3))
    assert not [cells for cells in referring_segmentation(found).rows if cells[2]]


def test_each_refiner_has_a_row_and_the_coarse_masks_count_once() -> None:
    found = [
        record
        for number in range(3)
        for record in (
            answered(referring(number, HALF), LEFT, HALF, "sharp"),
            answered(referring(number, HALF), LEFT, WHOLE, "blunt"),
        )
    ]
    table = referring_segmentation(found)
    assert [row[1] for row in table.rows] == ["coarse", "blunt", "sharp"]
    assert only(table, masks="coarse")["phrases"] == 3
    assert only(table, masks="coarse")["cIoU"] == pytest.approx(0.5)
    assert only(table, masks="sharp")["cIoU"] == 1


def test_the_refiner_ablation_compares_on_what_all_answered() -> None:
    found = [
        answered(referring(1, HALF), LEFT, HALF, "sharp", seconds={"generate": 3.0, "refine": 0.5}),
        answered(referring(1, HALF), LEFT, WHOLE, "blunt", seconds={"generate": 5.0, "refine": 0.1}),
        answered(referring(2, HALF), LEFT, HALF, "sharp"),
        failed(referring(2, HALF), refiner="blunt"),
    ]
    table = refiners(found)
    for name, quality in (("coarse", 0.5), ("sharp", 1.0), ("blunt", 0.5)):
        row = only(table, masks=name)
        assert (row["phrases"], row["cIoU"]) == (1, pytest.approx(quality))
    assert only(table, masks="sharp")["refine s"] == 0.5
    assert only(table, masks="sharp")["boundary F"] == 1
    assert only(table, masks="coarse")["refine s"] is None


def test_a_group_that_failed_altogether_has_a_row_without_figures() -> None:
    row = only(referring_segmentation([failed(referring(1, WHOLE))]))
    assert (row["phrases"], row["failed"]) == (0, 1)
    assert math.isnan(row["cIoU"])


def test_open_vocabulary_is_a_mean_over_classes() -> None:
    left, right = rectangle(0, 0, 30, 40), rectangle(30, 0, 60, 40)
    sky, road = left.copy(), right.copy()
    void = rectangle(0, 30, 60, 40)
    sample = semantic(1, {"sky": sky & ~void, "Road": road & ~void}, void, ("sky", "Road", "car"))
    numbers = np.ones(GRID, np.int16)  # sky everywhere, the void included
    row = only(open_vocabulary([described(sample, numbers, ("sky", "road", "car"))]))
    assert (row["images"], row["classes"]) == (1, 2)  # no car in truth or answer
    assert row["mIoU"] == pytest.approx((900 / 1800 + 0) / 2)


def test_marking_what_is_no_class_counts_against_the_class_that_was_named() -> None:
    sample = semantic(1, {"sky": rectangle(0, 0, 30, 40)}, EMPTY, ("sky", "road"))
    numbers = np.zeros(GRID, np.int16)
    numbers[:, :3], numbers[:, 3:] = 1, 2
    row = only(open_vocabulary([described(sample, numbers, ("sky", "road"))]))
    assert row["mIoU"] == pytest.approx((1 + 0) / 2)


def test_a_name_of_no_class_is_wrong_and_no_error() -> None:
    sample = semantic(1, {"sky": rectangle(0, 0, 60, 40)}, EMPTY, ("sky",))
    numbers = np.ones(GRID, np.int16)
    row = only(open_vocabulary([described(sample, numbers, ("heaven",))]))
    assert row["mIoU"] == 0


def test_the_best_that_a_grid_can_hold_is_the_truth_on_it() -> None:
    table = resolution([answered(referring(1, WHOLE), LEFT)])
    assert only(table, grid="4x6", **{"described by": "model"})["cIoU"] == 1
    ceilings = [row[2] for row in table.rows if row[1] == "truth"]
    assert all(0.5 < value <= 1 for value in ceilings)


def test_codecs_differ_in_length_and_the_model_has_one() -> None:
    table = codecs([answered(referring(1, WHOLE), LEFT, tokens=30, truth_tokens={"r-rle": 20, "full": 60})])
    truth = {row[0]: row for row in table.rows if row[1] == "truth"}
    # Rows "cat *2| others *4", the same, and two of "others *6", joined by a newline and a blank, and ended.
    assert truth["r-rle"][3] == 17 * 2 + 9 * 2 + 2 * 3 + 1
    assert truth["full"][3] > truth["r-rle"][3] > truth["i-rle"][3]
    assert (truth["r-rle"][4], truth["full"][4]) == (20, 60)
    assert math.isnan(truth["i-rle"][4])
    row = only(table, **{"written by": "model"})
    assert (row["codec"], row["tokens"], row["cIoU"], row["well-formed"]) == ("r-rle", 30, 1, 1)


def test_vqa_is_exact_but_for_what_nobody_hears() -> None:
    found = [
        talked(1, ("What is it?", "a cat", "A cat."), ("How many?", "two", "2")),
        talked(2, ("What is it?", "dog", "a hot dog")),
        failed(talked(3, ("What?", "x", "x")).sample),
    ]
    row = only(question_answering(found))
    assert (row["dialogues"], row["failed"], row["questions"]) == (2, 1, 3)
    assert row["exact match"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Cat", "cat"),
        ("1,000", "1000"),
        ("2.5 m", "2.5 m."),
        ("don't", "dont"),
        ("a-b", "a b"),
        ("Three", "3"),
    ],
)
def test_answers_that_are_the_same(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@pytest.mark.parametrize(("one", "other"), [("cat", "cats"), ("2.5", "25"), ("no", "not"), ("", "cat")])
def test_answers_that_are_not_the_same(one: str, other: str) -> None:
    assert plain(one) != plain(other)


def test_confidence_that_is_always_right_has_no_error() -> None:
    sure = np.where(LEFT, 1.0, 0.0).astype("<f2")
    good = answered(referring(1, WHOLE), LEFT, no_target=0.0)
    row = only(calibration([with_cells(good, sure)]), that="a cell carries the label")
    assert (row["judged"], row["calibration error"]) == (24, 0)
    wrong = with_cells(answered(referring(1, EMPTY), LEFT, no_target=0.0), sure)
    row = only(calibration([wrong]), that="a cell carries the label")
    assert row["calibration error"] == pytest.approx(4 / 24)
    assert only(calibration([wrong]), that="nothing matches the phrase")["calibration error"] == 1


def with_cells(record: Record, values: np.ndarray[Any, Any]) -> Record:
    import base64
    from dataclasses import replace

    assert record.answer is not None
    (found,) = record.answer.found
    told = replace(found, confidence=base64.b64encode(values.tobytes()).decode())
    return replace(record, answer=replace(record.answer, found=(told,)))
