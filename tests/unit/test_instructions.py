"""Samples as conversations."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, decode_strict
from text4seg.dialogue import find_blocks
from text4seg.masks import encode_rle, to_grid
from training.datasets.sample import Message, Sample, Task
from training.instructions import (
    IMAGE_TOKEN,
    Kind,
    SkippedSample,
    Style,
    instruct,
    label_grid,
    to_llava,
    to_swift,
)

SIZE = (60, 80)
VOCABULARY = tuple(f"class {number}" for number in range(30))


def referring(mask, phrase="The  White Horse", key="a"):
    return Sample(key, "tiny", "train", Path("a.jpg"), Task.REFERRING, (phrase,), (encode_rle(mask),))


def stripes(count=4):
    masks = []
    for number in range(count):
        mask = np.zeros(SIZE, dtype=bool)
        mask[:, number * 80 // count : (number + 1) * 80 // count] = True
        masks.append(mask)
    return masks


def semantic(key="s", masks=None, labels=None, vocabulary=VOCABULARY):
    masks = masks if masks is not None else stripes()
    return Sample(
        key,
        "tiny",
        "train",
        Path("a.jpg"),
        Task.SEMANTIC,
        tuple(labels or VOCABULARY[: len(masks)]),
        tuple(encode_rle(mask) for mask in masks),
        vocabulary=vocabulary,
    )


def decoded(conversation, style):
    (block,) = find_blocks(conversation.messages[-1].text)
    assert block.closed
    return decode_strict(block.text, style.grid, codec=style.codec)


def asked_labels(conversation):
    question = conversation.messages[0].text
    return set(re.search(r"class \d+(?:\|class \d+)*", question).group().split("|"))


masks = st.builds(
    lambda seed, share: np.kron(
        np.random.default_rng(seed).random((6, 8)) < share, np.ones((10, 10), dtype=bool)
    ),
    st.integers(0, 1000),
    st.sampled_from([0, 0.2, 0.6, 1]),
)
styles = st.builds(
    Style,
    grid=st.sampled_from([(16, 16), (24, 24), (32, 32)]),
    codec=st.sampled_from(Codec),
    rule=st.sampled_from(["nearest", "area"]),
    seed=st.integers(0, 5),
)


@given(masks, styles)
def test_the_written_answer_gives_back_the_grid_of_the_mask(mask, style):
    conversation = instruct(referring(mask), style)
    grid = decoded(conversation, style)
    assert grid == conversation.grid
    wanted = to_grid(mask, style.grid, style.rule)
    assert grid.present == (("the white horse",) if wanted.any() else ())
    if wanted.any():
        assert np.array_equal(grid.mask("the white horse"), wanted)
    assert conversation.vanished == (mask.any() and not wanted.any())


@given(masks, styles, st.integers(0, 50))
def test_answers_about_classes_give_back_the_grid_too(mask, style, number):
    parts = [mask, ~mask]
    sample = semantic(f"s{number}", [part for part in parts if part.any()])
    conversation = instruct(sample, style)
    grid = decoded(conversation, style)
    assert grid == conversation.grid
    for index, label in enumerate(sample.labels):
        if label in grid.present and style.rule == "nearest":
            assert np.array_equal(grid.mask(label), to_grid(sample.mask(index), style.grid, "nearest"))


def test_everything_drawn_depends_on_the_id_and_the_seed_alone():
    style = Style(seed=4, crop_share=0.5)
    samples = [semantic(f"s{number}") for number in range(40)]
    first = [instruct(sample, style) for sample in samples]
    assert [instruct(sample, style) for sample in reversed(samples)] == first[::-1]
    assert [instruct(sample, replace(style, seed=5)) for sample in samples] != first
    copies = [instruct(sample, style, 1) for sample in samples]
    assert [copy.messages for copy in copies] != [one.messages for one in first]
    assert [copy.id for copy in copies] == [f"{sample.id}-1" for sample in samples]


def test_sentences_are_those_that_serving_uses():
    questions, answers = set(), set()
    for number in range(300):
        conversation = instruct(referring(stripes()[0], key=str(number)), Style())
        questions.add(conversation.messages[0].text)
        answers.add(conversation.messages[1].text.split("\n")[0])
    phrase = "the white horse"
    assert questions == {dialogue.referring_question(phrase, index) for index in range(6)}
    assert answers == {dialogue.referring_answer(phrase, index) for index in range(10)}


def test_questions_about_classes_come_one_to_three_to_six():
    kinds = Counter(instruct(semantic(f"s{number}"), Style()).kind for number in range(2000))
    assert set(kinds) == {Kind.OPEN, Kind.PARTIAL, Kind.CONDITIONED}
    assert 150 < kinds[Kind.OPEN] < 250
    assert 530 < kinds[Kind.PARTIAL] < 670
    assert 1110 < kinds[Kind.CONDITIONED] < 1290


def test_each_kind_asks_for_what_it_says():
    there = set(VOCABULARY[:4])
    with_distractors = total = 0
    for number in range(400):
        conversation = instruct(semantic(f"s{number}"), Style(distractors=5))
        named = set(conversation.grid.labels) - {OTHERS}
        if conversation.kind is Kind.OPEN:
            assert named == there
            assert conversation.messages[0].text in dialogue.OPEN_QUESTIONS
        elif conversation.kind is Kind.PARTIAL:
            assert named == asked_labels(conversation)
            assert named < there
        else:
            asked = asked_labels(conversation)
            assert named == there
            assert there <= asked <= set(VOCABULARY)
            assert len(asked - there) <= 5
            total += 1
            with_distractors += asked != there
    assert 0.7 < with_distractors / total < 0.9


def test_what_is_not_asked_for_is_others():
    for number in range(60):
        conversation = instruct(semantic(f"s{number}"), Style(mix=(0, 1, 0)))
        named = asked_labels(conversation)
        for index, label in enumerate(VOCABULARY[:4]):
            column = conversation.grid.cells[:, 4 * index : 4 * index + 4]
            wanted = conversation.grid.labels.index(label) if label in named else 0
            assert (column == wanted).all()


def test_distractors_are_absent_from_the_whole_image_even_when_a_window_is_shown():
    for number in range(200):
        conversation = instruct(semantic(f"s{number}"), Style(mix=(0, 0, 1), crop_share=1, crop_side=0.2))
        absent = asked_labels(conversation) - (set(conversation.grid.labels) - {OTHERS})
        assert not absent & set(VOCABULARY[:4])


def test_windows_show_a_part_of_image_and_mask():
    style = Style(crop_share=1, mix=(1, 0, 0), crop_side=0.4)
    crops = set()
    for number in range(50):
        conversation = instruct(semantic(f"s{number}"), style)
        crop = conversation.crop
        assert 0 <= crop.x0 < crop.x1 <= 80
        assert 0 <= crop.y0 < crop.y1 <= 60
        assert crop.width >= 32
        assert crop.height >= 24
        crops.add(crop)
        centres = crop.x0 + (np.arange(16) + 0.5) * crop.width / 16
        expected = [VOCABULARY[int(centre // 20)] for centre in centres]
        row = [conversation.grid.labels[cell] for cell in conversation.grid.cells[0]]
        assert row == expected
    assert len(crops) > 40
    kept = [instruct(semantic(f"s{number}"), Style(crop_share=0.3)).crop is None for number in range(400)]
    assert 0.6 < np.mean(kept) < 0.8
    assert instruct(referring(stripes()[0]), style).crop is None


def test_a_window_holds_something_or_there_is_none():
    dot = np.zeros(SIZE, dtype=bool)
    dot[0, 0] = True
    for number in range(30):
        crop = instruct(semantic(f"s{number}", [dot]), Style(crop_share=1, crop_side=0.1)).crop
        assert crop is None or (crop.x0, crop.y0) == (0, 0)


def test_the_rules_differ_where_an_object_is_thin():
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, ::4] = True  # a fence: a quarter of each cell, and of its centres all
    mask = np.roll(mask, 2, axis=1)
    nearest = instruct(referring(mask), Style(rule="nearest"))
    area = instruct(referring(mask), Style(rule="area"))
    assert (nearest.grid.present, area.grid.present) == (("the white horse",), ())
    assert (nearest.vanished, area.vanished) == (False, True)
    with pytest.raises(SkippedSample, match="too small for any cell"):
        instruct(referring(mask), Style(rule="area", keep_vanished=False))
    assert instruct(referring(np.zeros(SIZE, dtype=bool)), Style(keep_vanished=False)).grid.present == ()


def test_by_area_a_cell_goes_to_what_covers_most_of_it():
    first, second = np.zeros((2, 10, 10), dtype=bool)
    first[:, :4] = True
    second[:, 4:7] = True
    assert label_grid(["a", "b"], [first, second], (1, 1), "area").present == ("a",)
    assert label_grid(["b"], [second], (1, 1), "area").present == ()
    first[:, 4:5] = True
    assert label_grid(["a"], [first], (1, 1), "area").present == ("a",)  # half is enough
    with pytest.raises(ValueError, match="unknown rule"):
        label_grid(["a"], [first], (1, 1), "most")


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("cat|dog", "a label contains '|'"),
        ("cat *3", "a label contains something that reads as a run length"),
        ("two\nlines", "a label contains the control character"),
        ("a <seg> tag", "a label contains a '<seg>'"),
        ("  ", "a label is empty"),
        ("Others", "a label is 'others'"),
        ("x" * 300, "a label is longer than"),
        ("the <image> there", "a label contains '<image>'"),
    ],
)
def test_labels_that_cannot_be_written_are_left_out_with_the_reason(phrase, reason):
    with pytest.raises(SkippedSample) as caught:
        instruct(referring(stripes()[0], phrase), Style())
    assert caught.value.reason.startswith(reason)
    with pytest.raises(SkippedSample) as caught:
        instruct(semantic(masks=stripes(2), labels=("fine", phrase)), Style())
    assert caught.value.reason.startswith(reason)


def test_classes_that_cannot_be_written_are_no_distractors():
    sample = semantic(vocabulary=(*VOCABULARY[:4], "a|b", "others", "Class  0"))
    for number in range(30):
        conversation = instruct(replace(sample, id=f"s{number}"), Style(mix=(0, 0, 1)))
        assert asked_labels(conversation) == set(VOCABULARY[:4])


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (semantic(masks=stripes(2), labels=("Cat", "cat ")), "two labels read the same"),
        (semantic(masks=[]), "nothing is marked"),
        (semantic(masks=[np.zeros(SIZE, dtype=bool)]), "nothing is marked"),
        (replace(semantic(), task=Task.REFERRING), "several phrases"),
    ],
)
def test_samples_that_cannot_be_asked_are_left_out(sample, reason):
    with pytest.raises(SkippedSample, match=reason):
        instruct(sample, Style())


def talk(*texts):
    roles = ("user", "assistant")
    messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(texts))
    return Sample("d", "llava", "train", Path("a.jpg"), Task.DIALOGUE, messages=messages)


def test_dialogues_stay_as_they_are():
    sample = talk("What is it?", "A cat.", "Sure?", "Yes.")
    conversation = instruct(sample, Style())
    assert (conversation.messages, conversation.grid) == (sample.messages, None)
    for texts, reason in (
        ((), "question and answer"),
        (("Why?",), "question and answer"),
        (("Why?", " "), "turn is empty"),
        (("Why?", "See <image>"), "contains '<image>'"),
        (("Why?", "\ud83d"), "half a character"),
    ):
        with pytest.raises(SkippedSample, match=reason):
            instruct(talk(*texts), Style())


@pytest.mark.parametrize("sample", [talk("What is it?", "A cat.", "Sure?", "Yes."), referring(stripes()[0])])
def test_both_forms_hold_the_same_talk_with_the_image_first(sample):
    conversation = instruct(sample, Style())
    swift, llava = to_swift(conversation, "b/c.jpg"), to_llava(conversation, "b/c.jpg")
    assert set(swift) == {"messages", "images"}
    assert (swift["images"], llava["image"], llava["id"]) == (["b/c.jpg"], "b/c.jpg", sample.id)
    contents = [message["content"] for message in swift["messages"]]
    assert [message["role"] for message in swift["messages"]] == ["user", "assistant"] * (len(contents) // 2)
    assert [turn["from"] for turn in llava["conversations"]] == ["human", "gpt"] * (len(contents) // 2)
    assert [turn["value"] for turn in llava["conversations"]] == contents
    assert contents[0] == f"{IMAGE_TOKEN}\n{conversation.messages[0].text}"
    assert contents[1:] == [message.text for message in conversation.messages[1:]]
