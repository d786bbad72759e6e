"""The descriptor language: everything that is written is in it, and everything in it can be finished."""

from __future__ import annotations

import json
import unicodedata

import llguidance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text4seg.descriptors import OTHERS, Codec, LabelGrid, RepairKind, decode, decode_strict, encode
from text4seg.dialogue import REFERRING_ANSWERS, answer_text, referring_answer
from text4seg.errors import LabelInvalidError
from text4seg.grammar import (
    MAX_CANONICAL_LABELS,
    MAX_OPEN_CHARACTERS,
    DescriptorGrammar,
    State,
    answer_lark,
    chat_lark,
    is_label_character,
)

# Labels that begin each other, need quoting, or are not ASCII.
LABELS = ("dog", "dog house", "do", "other", "otherss", 'a "quoted" \\one/', "犬", "l'été", "16")
MANY = tuple(f"label {index}" for index in range(MAX_CANONICAL_LABELS + 1))
VOCABULARIES = st.sampled_from([("dog",), LABELS[:4], LABELS[:MAX_CANONICAL_LABELS], MANY, None])
CODECS = st.sampled_from(list(Codec))
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 12))


class ByteTokenizer:
    """The smallest tokenizer llguidance takes: one token per byte, some longer ones, and an end token."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (
        *(bytes([value]) for value in range(256)),
        b"<eos>",
        *(b"others", b" *", b"16", b"| ", b"\n ", b"others *16\n others *16\n ", b"</seg>"),
    )

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = llguidance.LLTokenizer(llguidance.TokenizerWrapper(ByteTokenizer()), slices=[])


def matches(lark: str, text: str) -> bool:
    """Say whether llguidance takes the whole text, fed byte by byte."""
    matcher = llguidance.LLMatcher(TOKENIZER, lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return bool(
        matcher.validate_tokens(tokens) == len(tokens)
        and matcher.consume_tokens(tokens)
        and matcher.is_accepting()
    )


@st.composite
def walks(draw: st.DrawFn, grammar: DescriptorGrammar) -> tuple[str, State]:
    """A random prefix that the automaton allows."""
    text, state = "", grammar.start()
    for _ in range(draw(st.integers(0, 60))):
        letters = "" if grammar.labels is not None else "aé犬-\u0301\u0327"
        choices = sorted({*grammar.allowed(state), *(one for one in letters if grammar.step(state, one))})
        if not choices:
            break
        character = draw(st.sampled_from(choices))
        following = grammar.step(state, character)
        assert following is not None
        text, state = text + character, following
    return text, state


@st.composite
def grids(draw: st.DrawFn, shape: tuple[int, int], labels: tuple[str, ...]) -> LabelGrid:
    count = shape[0] * shape[1]
    cells = draw(st.lists(st.integers(0, len(labels)), min_size=count, max_size=count))
    return LabelGrid((OTHERS, *labels), np.array(cells).reshape(shape))


@given(SHAPES, VOCABULARIES, CODECS, st.data())
def test_every_written_descriptor_is_accepted(
    shape: tuple[int, int], labels: tuple[str, ...] | None, codec: Codec, data: st.DataObject
) -> None:
    grammar = DescriptorGrammar(shape, labels, codec)
    text = encode(data.draw(grids(shape, labels or ("dog", "dog house", "犬", "l'été"))), codec)
    assert grammar.accepts(text)
    assert matches(grammar.lark(), f"<seg>{text}</seg>")
    assert matches(grammar.lark(wrap=False), text)


@settings(max_examples=300)
@given(SHAPES, VOCABULARIES, CODECS, st.data())
def test_every_allowed_prefix_can_be_completed(
    shape: tuple[int, int], labels: tuple[str, ...] | None, codec: Codec, data: st.DataObject
) -> None:
    grammar = DescriptorGrammar(shape, labels, codec)
    prefix, state = data.draw(walks(grammar))
    text = prefix + grammar.complete(state)
    assert grammar.accepts(text)
    assert matches(grammar.lark(wrap=False), text)
    decoding = decode(text, shape, labels, codec)
    if labels is not None and (grammar.canonical or codec is Codec.FULL):
        assert encode(decode_strict(text, shape, labels, codec), codec) == text
    assert {repair.kind for repair in decoding.report.repairs} <= {RepairKind.SEPARATOR}
    assert decoding.report.lossy == ()


@settings(max_examples=300)
@given(SHAPES, VOCABULARIES, CODECS, st.data())
def test_automaton_and_matcher_agree_on_damaged_text(
    shape: tuple[int, int], labels: tuple[str, ...] | None, codec: Codec, data: st.DataObject
) -> None:
    grammar = DescriptorGrammar(shape, labels, codec)
    prefix, state = data.draw(walks(grammar))
    text = prefix + grammar.complete(state)
    at = data.draw(st.integers(0, len(text)))
    text = (
        text[:at] + data.draw(st.sampled_from(["", *"1 |*\nxé"])) + text[at + data.draw(st.integers(0, 1)) :]
    )
    assert grammar.accepts(text) == matches(grammar.lark(wrap=False), text)


@given(st.text(max_size=30) | st.sampled_from(["dog *2\n", "dog *2| dog *1\n", "others *03\n", "dog *3"]))
def test_closed_language_is_what_strict_decoding_takes(text: str) -> None:
    grammar = DescriptorGrammar((1, 3), ["dog"])
    assert grammar.accepts(text) == (decode(text, (1, 3), ["dog"]).report.repairs == ())


def test_referring_alternatives_and_lengths() -> None:
    grammar = DescriptorGrammar((16, 16), ["dog"])
    state = grammar.read("others *5| ")
    assert state is not None
    assert grammar.allowed(state) == {"d"}  # a run of others cannot follow: it would be the same run
    state = grammar.read("others *5| dog *1")
    assert state is not None
    assert grammar.allowed(state) == {"0", "1", "|"}
    assert grammar.complete(state) == "1\n" + " dog *16\n" * 15
    assert grammar.read("others *17") is None
    assert grammar.read("cat") is None
    assert grammar.read("others *16| ") is None
    end = grammar.read("dog *16\n" + " dog *16\n" * 15)
    assert end is not None
    assert grammar.is_complete(end)
    assert grammar.allowed(end) == frozenset()
    assert not grammar.accepts("dog *16\n")


def test_labels_that_begin_each_other() -> None:
    grammar = DescriptorGrammar((1, 3), ["dog", "dog house"])
    assert grammar.accepts("dog *1| dog house *1| dog *1\n")
    state = grammar.read("dog *1| dog")
    assert state is not None
    assert grammar.allowed(state) == {" "}
    state = grammar.read("dog *1| dog ")
    assert state is not None
    assert grammar.allowed(state) == {"h"}  # not "*": dog would follow itself


def test_many_labels_allow_equal_neighbours() -> None:
    grammar = DescriptorGrammar((1, 4), MANY)
    assert not grammar.canonical
    assert grammar.accepts("label 1 *2| label 1 *2\n")
    assert decode("label 1 *2| label 1 *2\n", (1, 4), MANY).grid == decode("label 1 *4\n", (1, 4), MANY).grid


def test_open_vocabulary_bounds_and_refuses() -> None:
    grammar = DescriptorGrammar((1, 2), None)
    assert grammar.accepts(f"{'a ' * MAX_OPEN_CHARACTERS}*2\n")
    assert not grammar.accepts(f"{'a ' * (MAX_OPEN_CHARACTERS + 1)}*2\n")
    for text in (" dog", "dog ", "Dog", "Évora", "a|b", "a<b", "do\u200bg", "\u0600"):
        assert not grammar.accepts(f"{text} *2\n")
        assert not matches(grammar.lark(wrap=False), f"{text} *2\n")
    assert not grammar.accepts("*2\n")
    assert [one for one in "a|é*< \n\x7f犬" if is_label_character(one)] == ["a", "é", "犬"]


def test_open_labels_have_the_same_characters_for_the_automaton_and_the_matcher() -> None:
    # Python's Unicode tables may be older than llguidance's: what is unassigned here is left out.
    known = [one for one in map(chr, range(0x110000)) if unicodedata.category(one) not in ("Cs", "Cn")]
    allowed = [one for one in known if is_label_character(one)]
    assert len(allowed) > 100_000
    begin = "a" * (MAX_OPEN_CHARACTERS - 1)
    lark = DescriptorGrammar((1, 2), None).lark(wrap=False)
    matcher = llguidance.LLMatcher(TOKENIZER, lark, log_level=0)
    for step in range(0, len(allowed), MAX_OPEN_CHARACTERS):
        tokens = list("".join(allowed[step : step + MAX_OPEN_CHARACTERS]).encode())
        assert matcher.validate_tokens(tokens) == len(tokens)
    for refused in set(known) - set(allowed) - set(" *"):
        tokens = list((begin + refused).encode())
        assert matcher.validate_tokens(tokens) < len(tokens)


@given(st.text(st.characters().filter(is_label_character), min_size=1, max_size=MAX_OPEN_CHARACTERS))
def test_every_open_label_is_taken_by_decoding(label: str) -> None:
    text = f"{label} *2\n"
    assert DescriptorGrammar((1, 2), None).accepts(text)
    decoding = decode(text, (1, 2))
    assert decoding.report.lossy == ()
    assert decoding.grid == LabelGrid.from_mask(np.ones((1, 2), bool), label)


@pytest.mark.parametrize("side", [16, 24, 32])
@pytest.mark.parametrize("labels", [("dog",), LABELS[:MAX_CANONICAL_LABELS], MANY * 19, None])
@pytest.mark.parametrize("codec", list(Codec))
def test_matcher_takes_full_size_grammars(side: int, labels: tuple[str, ...] | None, codec: Codec) -> None:
    grammar = DescriptorGrammar((side, side), labels, codec)
    cells = np.zeros((side, side), dtype=int)
    cells[3:7, 2:9] = 1
    text = encode(LabelGrid((OTHERS, labels[0] if labels else "dog"), cells), codec)
    assert grammar.accepts(text)
    assert matches(grammar.lark(), f"<seg>{text}</seg>")


def test_whole_answer() -> None:
    phrase = 'the "big" dog \\ o\'clock'
    sentences = [referring_answer(phrase, index) for index in range(len(REFERRING_ANSWERS))]
    sentences.append(sentences[0][:-1])  # the beginning of another sentence
    lark = answer_lark(sentences, DescriptorGrammar((1, 2), [phrase]))
    for sentence in sentences:
        assert matches(lark, answer_text(sentence, f"{phrase} *2\n"))
    assert not matches(lark, answer_text(sentences[0], "dog *2\n"))
    assert not matches(lark, answer_text("Yes:", f"{phrase} *2\n"))
    with pytest.raises(ValueError, match="sentence"):
        answer_lark([], DescriptorGrammar((1, 2), ["dog"]))


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("", True),
        ("A dog, 2 < 3, on\n\tgrass.", True),
        ("<seg>dog *2\n</seg>", True),
        ("Here: <seg>dog *1| sky *1\n</seg> and <seg>cat *2\n</seg>, that is all </seg>", True),
        ("Here: <seg>dog *1\n</seg>", False),
        ("Here: <seg>dog *2\n", False),
        ("Here: <seg>", False),
        ("a\x07b", False),
    ],
)
def test_chat_is_free_text_with_well_formed_blocks(text: str, accepted: bool) -> None:
    assert matches(chat_lark(DescriptorGrammar((1, 2), None)), text) == accepted


def test_tags_are_text_not_special_tokens() -> None:
    lark = DescriptorGrammar((1, 1), ["dog"]).lark()
    assert json.dumps("<seg>") in lark
    assert json.dumps("</seg>") in lark


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="shape"):
        DescriptorGrammar((0, 4), ["dog"])
    with pytest.raises(ValueError, match="besides"):
        DescriptorGrammar((1, 4), [OTHERS])
    with pytest.raises(LabelInvalidError):
        DescriptorGrammar((1, 4), ["a|b"])
