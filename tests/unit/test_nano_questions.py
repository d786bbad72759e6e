"""Questions about scenes, and whether their answers are true."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text4seg import dialogue
from text4seg.descriptors import OTHERS, decode_strict
from training.nano.questions import (
    COVERED,
    GRID,
    MOST_RUNS,
    PRESENT,
    caption,
    coloured,
    positional,
    questions_of,
    referring,
    semantic,
    union_by_name,
)

NOUNS = ["cat", "dog", "white horse", "cup", "mat", "tree", "bus", "boat", "kite", "fork"]


def share(top, left, height, width, value=255):
    cells = np.zeros((GRID, GRID), np.uint8)
    cells[top : top + height, left : left + width] = value
    return cells


@st.composite
def scenes(draw):
    """Names and covered shares of up to five boxes."""
    names = draw(st.lists(st.sampled_from(NOUNS), max_size=5))
    boxes = [
        share(
            draw(st.integers(0, 12)),
            draw(st.integers(0, 12)),
            draw(st.integers(1, 8)),
            draw(st.integers(1, 8)),
            draw(st.sampled_from([60, COVERED - 1, COVERED, 255])),
        )
        for _ in names
    ]
    return names, np.stack(boxes) if boxes else np.zeros((0, GRID, GRID), np.uint8)


def ask(names, shares, seed, count=6, colours=None, **options):
    facts = {"complete": True, "captions": (), "nouns": NOUNS, "sprite_nouns": NOUNS[:3]} | options
    return questions_of(
        names, shares, colours or [""] * len(names), count=count, rng=random.Random(seed), **facts
    )


def check(example):
    """The block says what the cells say, in the codec of serving."""
    if not example.block:
        assert example.labels == ()
        return
    grid = decode_strict(example.block, (GRID, GRID), example.labels)
    names = np.array((OTHERS, *example.labels))[example.cells]
    assert np.array_equal(np.array(grid.labels)[grid.cells], names)
    text = dialogue.answer_text(example.sentence, example.block)
    assert [block.text for block in dialogue.find_blocks(text)] == [example.block]


@given(scene=scenes(), seed=st.integers(0, 1000), complete=st.booleans())
def test_blocks_decode_back_to_the_cells(scene, seed, complete):
    names, shares = scene
    examples = ask(names, shares, seed, complete=complete, captions=("a cat on a mat",))
    assert examples
    for example in examples:
        check(example)
        assert example.block.count("*") <= MOST_RUNS or example.referring


@given(scene=scenes(), seed=st.integers(0, 1000), complete=st.booleans())
def test_whoever_is_asked_for_is_there_or_truly_absent(scene, seed, complete):
    names, shares = scene
    known = NOUNS if complete else NOUNS[:3]
    for example in ask(names, shares, seed, complete=complete):
        if not example.referring:
            continue
        (phrase,) = example.labels
        assert f"'{phrase}'" in example.sentence or phrase in example.sentence
        assert phrase in example.question
        mentioned = [name for name in NOUNS if name in phrase]
        assert mentioned
        if not example.cells.any():
            continue
        assert any(name in names for name in mentioned)
        if phrase in NOUNS:
            total = sum(part.astype(int) for name, part in zip(names, shares, strict=True) if name == phrase)
            assert np.array_equal(example.cells > 0, total >= COVERED)
    absent = [
        example.labels[0]
        for example in ask(names, shares, seed, complete=complete)
        if example.referring and example.labels[0] in NOUNS and example.labels[0] not in names
    ]
    assert set(absent) <= set(known)


@given(scene=scenes(), seed=st.integers(0, 1000))
def test_finer_grids_get_the_same_questions(scene, seed):
    names, shares = scene
    fine = shares.repeat(2, 1).repeat(2, 2)
    for one, other in zip(ask(names, shares, seed), ask(names, fine, seed), strict=True):
        assert (one.question, one.labels) == (other.question, other.labels)
        assert np.array_equal(one.cells.repeat(2, 0).repeat(2, 1), other.cells)


def test_absent_names_are_answered_with_nothing():
    example = referring("dog", None, random.Random(0))
    assert example.labels == ("dog",)
    assert not example.cells.any()
    assert example.block == "\n ".join([f"others *{GRID}"] * GRID) + "\n"


def test_share_of_absent_targets():
    shares = share(2, 2, 8, 8)[None]
    examples = [example for seed in range(300) for example in ask(["cat"], shares, seed)]
    asked = [example for example in examples if example.referring]
    absent = [example for example in asked if not example.cells.any()]
    assert 0.15 < len(absent) / len(asked) < 0.35


def test_names_of_other_data_sets_are_not_called_absent():
    """Where only persons are annotated, a cat may be there without a mark."""
    shares = share(2, 2, 8, 8)[None]
    for seed in range(100):
        for example in ask(["boat"], shares, seed, complete=False):
            missing = {label for label in example.labels if label != "boat" and "boat" not in label}
            assert missing <= set(NOUNS[:3])


def test_several_things_of_a_name_are_one_answer():
    shares = np.stack([share(0, 0, 4, 4), share(10, 10, 4, 4), share(0, 10, 3, 3)])
    union = union_by_name(["cat", "cat", "dog"], shares)
    assert set(union) == {"cat", "dog"}
    assert (union["cat"] > 0).sum() == 32


def test_tiny_things_are_not_asked_for():
    least = PRESENT * 255 * GRID**2 / 2
    tiny, small = share(0, 0, 1, 2, math.ceil(least) - 1), share(0, 0, 1, 2, math.ceil(least))
    assert union_by_name(["cat"], tiny[None]) == {}
    assert set(union_by_name(["cat"], small[None])) == {"cat"}
    for seed in range(50):
        for example in ask(["cat"], tiny[None], seed):
            assert "cat" not in example.labels


SIDES = {
    "left": share(6, 0, 4, 4),
    "right": share(6, 11, 4, 4),
    "top": share(0, 6, 4, 4),
    "bottom": share(12, 6, 4, 4),
}


@pytest.mark.parametrize("pair", [("left", "right"), ("right", "left"), ("top", "bottom"), ("bottom", "top")])
def test_positional_phrases_pick_the_right_one(pair):
    shares = np.stack([SIDES[side] for side in pair])
    seen = set()
    for seed in range(40):
        example = positional(["cat", "cat"], shares, random.Random(seed))
        check(example)
        (phrase,) = example.labels
        (side,) = [side for side in SIDES if side in phrase]
        assert np.array_equal(example.cells > 0, SIDES[side] > 0)
        seen.add(side)
    assert seen == set(pair)


def test_no_position_without_two_things_clearly_apart():
    rng = random.Random(0)
    near = np.stack([share(5, 5, 4, 4), share(5, 7, 4, 4)])
    assert positional(["cat", "cat"], near, rng) is None
    assert positional(["cat", "dog"], np.stack([SIDES["left"], SIDES["right"]]), rng) is None
    three = np.stack([SIDES["left"], SIDES["right"], SIDES["top"]])
    assert positional(["cat"] * 3, three, rng) is None
    assert positional([], np.zeros((0, GRID, GRID), np.uint8), rng) is None


def asked_by_colour(names, colours, boxes, count=60):
    """Every phrase that is asked, with the cells of its answer."""
    examples = [coloured(names, np.stack(boxes), colours, random.Random(seed)) for seed in range(count)]
    return {example.labels[0]: example.cells > 0 for example in examples if example is not None}


def test_coloured_phrases_pick_the_things_of_that_colour():
    boxes = [share(0, 0, 4, 4), share(0, 8, 4, 4), share(8, 0, 4, 4)]
    asked = asked_by_colour(["cup", "cup", "cup"], ["red", "blue", "red"], boxes)
    assert np.array_equal(asked.pop("red cup"), (boxes[0] + boxes[2]) > 0)
    assert np.array_equal(asked.pop("blue cup"), boxes[1] > 0)
    assert asked
    assert not any(cells.any() for cells in asked.values())


def test_colours_that_may_be_called_alike_are_not_called_absent():
    asked = asked_by_colour(["cup"], ["red"], [share(0, 0, 4, 4)])
    assert set(asked).isdisjoint({"pink cup", "orange cup", "brown cup"})
    assert {"green cup", "blue cup"} <= set(asked)


def test_no_colour_is_asked_for_where_one_is_not_told():
    boxes = [share(0, 0, 4, 4), share(0, 8, 4, 4)]
    assert asked_by_colour(["cup", "cup"], ["red", ""], boxes) == {}
    assert set(asked_by_colour(["cup", "cat"], ["", "black"], boxes)) >= {"black cat"}
    assert not any("cup" in phrase for phrase in asked_by_colour(["cup", "cat"], ["", "black"], boxes))


def test_label_lists():
    union = union_by_name(["cat", "dog"], np.stack([share(0, 0, 8, 8), share(4, 4, 8, 8, 200)]))
    example = semantic(["dog", "cup", "cat"], union, random.Random(1), named=True)
    check(example)
    assert "dog|cup|cat" in example.question
    assert not example.referring
    assert (example.cells == 3).sum() == 64
    assert (example.cells == 1).sum() == 64 - 16
    assert not (example.cells == 2).any()


def test_label_lists_hold_present_and_absent_names():
    shares = np.stack([share(0, 0, 6, 6), share(8, 8, 6, 6)])
    lists = [
        example
        for seed in range(200)
        for example in ask(["cat", "dog"], shares, seed)
        if not example.referring and "|" in example.question
    ]
    assert lists
    for example in lists:
        assert len(set(example.labels)) == len(example.labels)
        for number, label in enumerate(example.labels, 1):
            assert (example.cells == number).any() == (label in ("cat", "dog"))
    assert any(set(example.labels) - {"cat", "dog"} for example in lists)


def test_open_questions_name_everything_once_and_only_where_all_is_known():
    shares = np.stack([share(0, 0, 6, 6), share(8, 8, 6, 6)])

    def asked_open(complete):
        return [
            example
            for seed in range(200)
            for example in ask(["dog", "cat"], shares, seed, complete=complete)
            if example.question in dialogue.OPEN_QUESTIONS
        ]

    assert asked_open(True)
    assert {example.labels for example in asked_open(True)} == {("cat", "dog")}
    assert asked_open(False) == []


def test_captions():
    example = caption("a cat on a mat", random.Random(0))
    assert example.question in dialogue.CAPTION_QUESTIONS
    assert (example.sentence, example.block, example.labels) == ("a cat on a mat", "", ())
    shares = share(0, 0, 6, 6)[None]
    told = [
        example
        for seed in range(200)
        for example in ask(["cat"], shares, seed, captions=("it sits",))
        if not example.block
    ]
    assert {example.sentence for example in told} == {"it sits"}
    assert all(example.block for seed in range(200) for example in ask(["cat"], shares, seed))


def test_all_sentences_are_drawn():
    shares = share(0, 0, 6, 6)[None]
    text = " ".join(
        f"{example.question} {example.sentence}"
        for seed in range(400)
        for example in ask(["cat"], shares, seed)
    )
    for sentence in (*dialogue.REFERRING_QUESTIONS, *dialogue.REFERRING_ANSWERS):
        assert sentence.partition("{phrase}")[0] in text


def test_few_names():
    assert ask([], np.zeros((0, GRID, GRID), np.uint8), 0, nouns=["cat"])[0].labels == ("cat",)
    (*_, last) = ask(["cat"], share(0, 0, 6, 6)[None], 0, nouns=["cat"], sprite_nouns=["cat"])
    assert "cat" in last.labels[0]
    assert ask(["cat"], share(0, 0, 1, 1, 9)[None], 0, nouns=["cat"]) == []


def test_same_seed_same_questions():
    shares = np.stack([SIDES["left"], SIDES["right"]])
    first, second, other = (
        [(example.question, example.block) for example in ask(["cat", "cat"], shares, seed, 20)]
        for seed in (3, 3, 4)
    )
    assert first == second != other
