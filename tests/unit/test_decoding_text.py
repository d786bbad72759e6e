import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.decoding.text import TextAssembler


@st.composite
def cut_text(draw):
    """A text and its bytes, cut anywhere, also inside characters."""
    text = draw(st.text(st.characters(codec="utf-8"), max_size=30))
    data = text.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    edges = [0, *cuts, len(data)]
    return text, [data[begin:end] for begin, end in itertools.pairwise(edges)]


@given(cut_text())
def test_pieces_make_the_text_and_spans_cover_it(cut):
    text, pieces = cut
    assembler = TextAssembler(pieces.__getitem__)
    position = 0
    written = ""
    for index in range(len(pieces)):
        piece, token = assembler.add(index, -0.5)
        assert (token.begin, token.end, token.logprob) == (position, position + len(piece), -0.5)
        position = token.end
        written += piece
    assert written == text


@given(cut_text(), st.sampled_from([" ", "  ", "\n "]))
def test_lead_is_no_part_of_the_text(cut, lead):
    text, pieces = cut
    pieces = [lead.encode(), *pieces]
    assembler = TextAssembler(pieces.__getitem__, lead)
    added = [assembler.add(index, 0.0) for index in range(len(pieces))]
    assert "".join(piece for piece, _ in added) == text
    assert added[-1][1].end == len(text)


def test_lead_is_hidden_inside_a_longer_token():
    tokens = [b" Sure", b" thing"]
    assembler = TextAssembler(tokens.__getitem__, " ")
    assert assembler.add(0, 0.0)[0] == "Sure"
    piece, token = assembler.add(1, 0.0)
    assert (piece, token.begin, token.end) == (" thing", 4, 10)


@pytest.mark.parametrize("pieces", [[b"\xe2\x82"], [b"a", b"\xf0\x9f"]])
def test_incomplete_character_at_the_end_is_dropped(pieces):
    assembler = TextAssembler(pieces.__getitem__)
    written = "".join(assembler.add(index, 0.0)[0] for index in range(len(pieces)))
    assert written in ("", "a")


def test_bytes_that_are_no_text_are_replaced():
    assembler = TextAssembler([b"a\xffb"].__getitem__)
    assert assembler.add(0, 0.0)[0] == "a�b"
