"""What the command line prints: tables, JSON, and chat text without descriptor blocks."""

import json
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from text4seg.dialogue import strip_blocks
from text4seg.masks import Box
from text4seg.segmentation import Region, Timing
from text4seg_client.conversation import BlockFilter
from text4seg_client.report import region_json, table, timing_json

ANSWERS = st.lists(
    st.sampled_from(["<seg>", "</seg>", "cat *16\n", "<", "<se", "</s", "seg>", "There it is. ", "a"]),
    max_size=12,
).map("".join)


def _filtered(text: str, cuts: list[int]) -> str:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    blocks = BlockFilter()
    seen = "".join(blocks.feed(text[begin:end]) for begin, end in pairwise(places))
    return seen + blocks.finish()


@given(ANSWERS, st.lists(st.integers(0, 100), max_size=8))
def test_what_a_person_sees_does_not_depend_on_how_the_text_was_cut(text: str, cuts: list[int]) -> None:
    assert _filtered(text, cuts) == _filtered(text, [])


@given(st.lists(st.sampled_from(["There. ", "<seg>cat *16\n</seg>", "a < b "]), max_size=6).map("".join))
def test_exactly_the_blocks_are_left_out(text: str) -> None:
    expected = text.replace("<seg>cat *16\n</seg>", "")
    assert _filtered(text, [3, 5, 9]) == expected
    assert strip_blocks(text).split() == expected.split()


def test_text_is_shown_as_soon_as_it_cannot_be_a_tag() -> None:
    blocks = BlockFilter()
    assert blocks.feed("It is a <") == "It is a "
    assert blocks.feed("b") == "<b"


def test_columns_are_aligned() -> None:
    text = table(("label", "area"), [("cat", "7"), ("a long label", "12345")], right=(1,))
    assert text.splitlines() == ["label          area", "cat               7", "a long label  12345"]


def test_timing_is_in_milliseconds_and_leaves_out_what_did_not_run() -> None:
    assert timing_json(Timing(total_s=0.1234567, decode_s=0.0)) == {"total": 123.457, "decode": 0.0}


def test_a_region_without_a_mask_is_written_as_such() -> None:
    region = Region("cat", None, np.ones((2, 2), np.bool_), Box(0, 1, 2, 3), 1 / 3, 4)
    assert json.loads(json.dumps(region_json(region))) == {
        "label": "cat",
        "score": 0.333333,
        "box": [0, 1, 2, 3],
        "area": 4,
        "refined": False,
        "mask": None,
    }
