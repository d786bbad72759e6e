"""The descriptor language in EBNF, against the automaton and by the matcher that reads it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgrammar import Grammar
from xgrammar.testing import _is_grammar_accept_string

from text4seg.descriptors import OTHERS, Codec, LabelGrid, encode
from text4seg.ebnf import answer_ebnf
from text4seg.grammar import MAX_CANONICAL_LABELS, DescriptorGrammar

LABELS = ("dog", "dog house", "do", "other", "otherss", 'a "quoted" \\one/', "犬", "l'été", "16")
MANY = tuple(f"label {index}" for index in range(MAX_CANONICAL_LABELS + 1))
VOCABULARIES = st.sampled_from([("dog",), LABELS[:4], LABELS[:MAX_CANONICAL_LABELS], MANY, None])
SENTENCE = "Sure, here's the “mask”:"


def accepts(grammar: DescriptorGrammar, block: str, sentence: str = SENTENCE) -> bool:
    parsed = Grammar.from_ebnf(answer_ebnf((SENTENCE, "No."), grammar))
    return bool(_is_grammar_accept_string(parsed, f"{sentence}\n<seg>{block}</seg>"))


@given(st.data(), VOCABULARIES, st.sampled_from(list(Codec)), st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=40)
def test_what_is_written_is_in_the_language(
    data: st.DataObject, labels: tuple[str, ...] | None, codec: Codec, rows: int, columns: int
) -> None:
    known = labels or LABELS
    indexes = st.integers(0, len(known))
    cells = data.draw(st.lists(indexes, min_size=rows * columns, max_size=rows * columns))
    grid = LabelGrid((OTHERS, *known), np.array(cells, dtype=np.int16).reshape(rows, columns))
    assert accepts(DescriptorGrammar((rows, columns), labels, codec), encode(grid, codec))


@given(st.data(), VOCABULARIES, st.sampled_from([Codec.RRLE, Codec.FULL]))
@settings(max_examples=60)
def test_it_is_the_language_of_the_automaton(
    data: st.DataObject, labels: tuple[str, ...] | None, codec: Codec
) -> None:
    grammar = DescriptorGrammar((2, 4), labels, codec)
    pieces = [
        *(labels or LABELS)[:3],
        "others",
        " *1",
        " *2",
        " *4",
        "| ",
        "\n ",
        "\n",
        "*",
        " ",
        "A",
        "|",
        "0",
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=14)))
    assert accepts(grammar, text) == grammar.accepts(text)
    cut = text[: data.draw(st.integers(0, len(text)))]
    while (state := grammar.read(cut)) is None:
        cut = cut[:-1]
    assert accepts(grammar, cut + grammar.complete(state))


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (1, 32)])
def test_rows_add_up(shape: tuple[int, int]) -> None:
    rows, columns = shape
    grammar = DescriptorGrammar(shape, ("dog",))
    row = f"others *{columns}"
    assert accepts(grammar, "\n ".join([row] * rows) + "\n")
    assert not accepts(grammar, "\n ".join([row] * (rows + 1)) + "\n")
    assert not accepts(grammar, "\n ".join([f"others *{columns + 1}"] * rows) + "\n")


def test_an_answer_is_one_of_the_sentences_and_a_block() -> None:
    grammar = DescriptorGrammar((1, 1), ("dog",))
    assert accepts(grammar, "dog *1\n", "No.")
    assert not accepts(grammar, "dog *1\n", "Maybe.")
    assert not accepts(grammar, "dog *1\n</seg>")
    with pytest.raises(ValueError, match="sentence"):
        answer_ebnf((), grammar)


@pytest.mark.parametrize(
    "label", ["Dog", "a  b", " a", "a|b", "a*b", "a\tb", "Ä", "a\u200bb", "<seg>", "x" * 65]
)
def test_open_labels_are_plain(label: str) -> None:
    grammar = DescriptorGrammar((1, 1), None)
    assert not grammar.accepts(f"{label} *1\n")
    assert not accepts(grammar, f"{label} *1\n")
