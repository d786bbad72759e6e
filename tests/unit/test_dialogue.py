"""Templates and block extraction: what training writes is what serving reads."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text4seg import dialogue
from text4seg.dialogue import (
    answer_text,
    canonical_phrase,
    conditioned_question,
    find_blocks,
    open_question,
    referring_answer,
    referring_question,
    strip_blocks,
)
from text4seg.errors import LabelInvalidError, QueryInvalidError
from text4seg.labels import label_problem

PIECES = st.lists(st.sampled_from(["<seg>", "</seg>", "<se", "g>", "others *16\n ", "text ", "\n", "<"]))


def test_published_sentences() -> None:
    assert referring_question("white horse") == "Please segment only the white horse in the image."
    assert conditioned_question(["a", "b c", "d"]).endswith(" category: a|b c|d.")
    answer = answer_text(referring_answer("white horse"), "others *1\n")
    assert answer == ("Sure, here is the segmentation mask for 'white horse':\n<seg>others *1\n</seg>")


def test_counts_of_the_training_mix() -> None:
    for sentences, count in (
        (dialogue.REFERRING_QUESTIONS, 6),
        (dialogue.REFERRING_ANSWERS, 10),
        (dialogue.CONDITIONED_QUESTIONS, 7),
        (dialogue.OPEN_QUESTIONS, 13),
    ):
        assert len(set(sentences)) == count


def test_every_question_names_what_is_asked() -> None:
    for index in range(len(dialogue.REFERRING_QUESTIONS)):
        assert "{braces} dog" in referring_question("{braces} dog", index)
    for index in range(len(dialogue.REFERRING_ANSWERS)):
        assert "'dog'" in referring_answer("dog", index)
    for index in range(len(dialogue.CONDITIONED_QUESTIONS)):
        assert "cat|dog" in conditioned_question(["Cat", "dog"], index)


def test_no_sentence_looks_like_a_block() -> None:
    for name in dir(dialogue):
        sentences = getattr(dialogue, name)
        if name.endswith(("_QUESTIONS", "_ANSWERS", "_SENTENCES")):
            for sentence in sentences:
                assert "<" not in sentence
                assert "\n" not in sentence


def test_choice_is_reproducible() -> None:
    drawn = [referring_question("dog", random.Random(seed)) for seed in range(50)]
    assert drawn == [referring_question("dog", random.Random(seed)) for seed in range(50)]
    assert len(set(drawn)) == len(dialogue.REFERRING_QUESTIONS)
    assert open_question() == dialogue.OPEN_QUESTIONS[0]
    with pytest.raises(IndexError):
        referring_question("dog", 6)


def test_conditioned_question_refuses_what_cannot_be_answered() -> None:
    with pytest.raises(QueryInvalidError):
        conditioned_question([])
    with pytest.raises(LabelInvalidError) as caught:
        conditioned_question(["dog", "a|b"])
    assert caught.value.field == "labels[1]"


def test_canonical_phrase() -> None:
    assert canonical_phrase("  The  WHITE horse ") == "the white horse"
    assert canonical_phrase("cafe\u0301") == "caf\u00e9"
    for bad in ("", " \n", "a|b", "a\nb", "</seg>", "dog *3", "others", "x" * 5000, "a\x1bb"):
        with pytest.raises(QueryInvalidError) as caught:
            canonical_phrase(bad, "queries[0].phrase")
        assert caught.value.field == "queries[0].phrase"


@given(st.text(max_size=40))
def test_canonical_phrase_is_stable(text: str) -> None:
    if label_problem(text) is None:
        assert canonical_phrase(canonical_phrase(text)) == canonical_phrase(text)


def test_blocks_of_an_answer() -> None:
    answer = "One:\n<seg>a\n</seg> and two: <seg>b <seg>c</seg> end </seg>"
    blocks = find_blocks(answer)
    assert [(block.text, block.closed) for block in blocks] == [("a\n", True), ("b ", False), ("c", True)]
    for block in blocks:
        assert answer[block.content_begin : block.content_begin + len(block.text)] == block.text
        assert answer[block.begin : block.end].endswith("</seg>") == block.closed
    assert strip_blocks(answer) == "One:\nand two:\nend </seg>"
    assert find_blocks("no mask") == ()
    assert strip_blocks(" no mask ") == "no mask"


@given(PIECES.map("".join))
def test_blocks_never_overlap_and_hold_no_tag(answer: str) -> None:
    position = 0
    for block in find_blocks(answer):
        assert position <= block.begin < block.end <= len(answer)
        assert answer.startswith("<seg>", block.begin)
        assert "<seg>" not in block.text
        assert "</seg>" not in block.text
        position = block.end
    assert answer.count("<seg>") == len(find_blocks(answer))


@given(st.sampled_from(["", "x", "others *16\n"]), st.sampled_from(["Sure:", "It's here:"]))
def test_answer_text_is_read_back(block: str, sentence: str) -> None:
    answer = answer_text(sentence, block)
    (found,) = find_blocks(answer)
    assert (found.text, found.closed) == (block, True)
    assert strip_blocks(answer) == sentence
