"""The nano tokenizer: one token for each word, run length and separator; any text survives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nano_data import sprite_names
from text4seg import dialogue
from text4seg.descriptors import decode_strict
from training.nano.start import config_for, phrase_tokens
from training.nano.tokenizer import (
    ASSISTANT,
    END,
    EXTRA_WORDS,
    IMAGE,
    IMAGENET_NAMES,
    MOST_CELLS,
    PAD,
    USER,
    build_tokenizer,
    known_words,
)

NOUNS = [noun for _, noun in sprite_names()]
WORDS = known_words(NOUNS, ["a tabby on a doormat", "people café-side"])
TOKENIZER = build_tokenizer(WORDS)


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False).input_ids


def test_known_words_come_from_everywhere():
    for word in ("tabby", "café", "left", "others", "Please", "tench", *EXTRA_WORDS):
        assert word in WORDS
    assert not any(re.search(r"[\W\d_]", word) for word in WORDS)
    assert "phrase" not in WORDS
    assert sorted(WORDS) == WORDS


def test_every_word_is_one_token_with_and_without_a_space():
    for word in WORDS:
        assert len(ids_of(word)) == 1, word
        assert len(ids_of(" " + word)) == 1, word
    assert ids_of("cat") != ids_of(" cat")


def test_separators_counts_and_marks_are_one_token():
    counts = [f" *{number}" for number in range(1, MOST_CELLS + 1)]
    texts = ["| ", "\n ", "<seg>", "</seg>", PAD, IMAGE, USER, ASSISTANT, END, *counts]
    ids = [ids_of(text) for text in texts]
    assert all(len(each) == 1 for each in ids)
    assert len({each[0] for each in ids}) == len(texts)


def test_descriptors_are_words_counts_and_separators():
    text = "<seg>others *13| white horse *3\n others *16\n</seg>"
    tokens = TOKENIZER.convert_ids_to_tokens(ids_of(text))
    expected = [
        "<seg>",
        "others",
        " *13",
        "| ",
        "white",
        "Ġhorse",
        " *3",
        "\n ",
        "others",
        " *16",
        "Ċ",
        "</seg>",
    ]
    assert tokens == expected


def test_tags_are_text_and_marks_are_special():
    ids = ids_of(f"{USER}{IMAGE}cat{ASSISTANT}<seg>cat *1\n</seg>{END}")
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "cat<seg>cat *1\n</seg>"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_survives(text):
    assert TOKENIZER.decode(ids_of(text)) == text


@pytest.mark.parametrize(
    "text", ["x *33", "a |b", "\n\n  \t", "<seg", "Ünïcödé 猫 🐈", "*3", " * 3", "| \n ", "don't", " *1 *12"]
)
def test_odd_text_survives(text):
    assert TOKENIZER.decode(ids_of(text)) == text


def test_every_template_survives():
    questions = [
        dialogue.referring_question("white horse", n) for n in range(len(dialogue.REFERRING_QUESTIONS))
    ]
    answers = [dialogue.referring_answer("white horse", n) for n in range(len(dialogue.REFERRING_ANSWERS))]
    lists = [
        dialogue.conditioned_question(["cat", "dog"], n) for n in range(len(dialogue.CONDITIONED_QUESTIONS))
    ]
    for text in (*questions, *answers, *lists, *dialogue.OPEN_QUESTIONS, *dialogue.CAPTION_QUESTIONS):
        assert TOKENIZER.decode(ids_of(text)) == text
        assert len(ids_of(text)) < 40


def test_written_descriptors_decode_strictly():
    block = "others *1| traffic light *15\n " + "\n ".join(["others *16"] * 15) + "\n"
    text = TOKENIZER.decode(ids_of(dialogue.answer_text("Sure:", block)))
    (found,) = dialogue.find_blocks(text)
    assert decode_strict(found.text, (16, 16), ["traffic light"]).mask("traffic light").sum() == 15


def test_same_words_same_tokenizer():
    assert build_tokenizer(WORDS).get_vocab() == TOKENIZER.get_vocab()


def test_configuration_holds_the_ids():
    config = config_for(TOKENIZER, hidden_size=64)
    tokens = TOKENIZER.convert_ids_to_tokens
    assert tokens([config.image_token_id, config.assistant_token_id]) == [IMAGE, ASSISTANT]
    assert tokens([config.seg_open_token_id, config.seg_close_token_id]) == ["<seg>", "</seg>"]
    assert tokens([config.row_token_id, config.pad_token_id, config.eos_token_id]) == ["\n ", PAD, END]
    assert tokens(config.count_token_ids) == [f" *{number}" for number in range(1, MOST_CELLS + 1)]
    assert config.vocab_size == len(TOKENIZER)
    assert config.hidden_size == 64


def test_longer_runs_are_tokens_when_asked_for():
    wide = build_tokenizer(WORDS, 256)
    config = config_for(wide)
    assert wide.convert_ids_to_tokens(config.count_token_ids) == [f" *{number}" for number in range(1, 257)]
    assert wide.decode([config.bar_token_id]) == "| "
    assert wide.tokenize("others *255| cat *256") == ["others", " *255", "| ", "cat", " *256"]


def test_phrases_are_tokens_as_in_a_descriptor():
    phrases = phrase_tokens(TOKENIZER, ["cat", "white horse"])
    assert [TOKENIZER.decode(each) for each in phrases] == ["cat", "white horse"]
    assert [len(each) for each in phrases] == [1, 2]
    assert phrase_tokens(TOKENIZER, []) == []


def test_imagenet_names_are_in_the_order_of_the_classes():
    assert len(IMAGENET_NAMES) == 1000
    assert (IMAGENET_NAMES[0], IMAGENET_NAMES[281], IMAGENET_NAMES[999]) == (
        "tench",
        "tabby",
        "toilet tissue",
    )
