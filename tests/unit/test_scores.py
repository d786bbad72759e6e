"""Scores: from token log-probabilities to patches, regions and "nothing there"."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text4seg.descriptors import Codec, LabelGrid, decode, encode
from text4seg.scores import (
    UNKNOWN_PROBABILITY,
    Calibration,
    TokenLogprob,
    label_probabilities,
    no_target_score,
    patch_probabilities,
    region_score,
)

TEXT = "others *2| dog *4\n others *6\n"
SHAPE = (2, 6)


def tokens_of(text: str, pieces: dict[str, float], width: int = 1) -> list[TokenLogprob]:
    """Cut a text into tokens of ``width`` characters; those inside a named piece share its probability."""
    tokens = [TokenLogprob(at, min(at + width, len(text)), 0.0) for at in range(0, len(text), width)]
    for piece, probability in pieces.items():
        begin = text.index(piece)
        inside = [index for index, token in enumerate(tokens) if begin <= token.begin < begin + len(piece)]
        for index in inside:
            tokens[index] = TokenLogprob(
                tokens[index].begin, tokens[index].end, math.log(probability) / len(inside)
            )
    return tokens


def test_certain_tokens_make_certain_patches() -> None:
    probabilities = patch_probabilities(decode(TEXT, SHAPE, ["dog"]), tokens_of(TEXT, {}))
    assert probabilities.tolist() == np.ones(SHAPE).tolist()


def test_label_and_count_probability() -> None:
    decoding = decode(TEXT, SHAPE, ["dog"])
    probabilities = patch_probabilities(decoding, tokens_of(TEXT, {"dog": 0.8, "4": 0.5}))
    expected = [1.0, 1.0, 0.8, 0.8 * 0.875, 0.8 * 0.75, 0.8 * 0.625]
    assert probabilities[0] == pytest.approx(expected)
    assert probabilities[1] == pytest.approx(np.ones(6))


def test_tokens_may_straddle_the_spans() -> None:
    decoding = decode(TEXT, SHAPE, ["dog"])
    edges = [0, 8, 9, 14, 18, len(TEXT)]  # "others *", "2", "| dog", " *4\n", rest
    logs = [0.0, 0.0, math.log(0.5), math.log(0.25), 0.0]
    tokens = [TokenLogprob(a, b, log) for a, b, log in zip(edges[:-1], edges[1:], logs, strict=True)]
    probabilities = patch_probabilities(decoding, tokens)
    assert probabilities[0, 2] == pytest.approx(0.5)
    assert probabilities[0, 5] == pytest.approx(0.5 * (0.25 + 0.75 * 0.25))
    assert probabilities[1].tolist() == [1.0] * 6


def test_bytes_of_one_character_all_count() -> None:
    text = "犬 *1\n"
    tokens = [TokenLogprob(0, 0, math.log(0.5)), TokenLogprob(0, 1, math.log(0.5)), TokenLogprob(1, 5, 0.0)]
    assert patch_probabilities(decode(text, (1, 1), ["犬"]), tokens)[0, 0] == pytest.approx(0.25)


def test_what_was_not_written_is_unknown() -> None:
    text = "dog *6\n"
    decoding = decode(text, SHAPE, ["dog"])
    probabilities = patch_probabilities(decoding, tokens_of(text, {}))
    assert probabilities.tolist() == [[1.0] * 6, [UNKNOWN_PROBABILITY] * 6]
    assert patch_probabilities(decoding, []).tolist() == np.full(SHAPE, UNKNOWN_PROBABILITY).tolist()


@given(
    st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 3), st.sampled_from(["dog", "4"])
)
def test_probabilities_fall_along_a_run_and_grow_with_each_token(
    label: float, count: float, more: float, width: int, which: str
) -> None:
    decoding = decode(TEXT, SHAPE, ["dog"])
    pieces = {"dog": label, "4": count}
    low = patch_probabilities(decoding, tokens_of(TEXT, pieces, width=1))
    run = low[0, 2:6]
    assert (np.diff(run) <= 1e-12).all()
    assert (low >= 0).all()
    assert (low <= 1).all()
    higher = {**pieces, which: pieces[which] + (1 - pieces[which]) * more}
    assert (patch_probabilities(decoding, tokens_of(TEXT, higher)) >= low - 1e-12).all()
    assert patch_probabilities(decoding, tokens_of(TEXT, pieces, width)).shape == SHAPE


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_fills_the_grid(codec: Codec) -> None:
    grid = LabelGrid.from_mask(np.arange(12).reshape(3, 4) % 5 == 0, "dog")
    text = encode(grid, codec)
    tokens = [TokenLogprob(at, at + 1, math.log(0.99)) for at in range(len(text))]
    probabilities = patch_probabilities(decode(text, (3, 4), ["dog"], codec), tokens)
    assert (probabilities < 1).all()
    assert (probabilities > 0.5).all()


def test_impossible_and_broken_logprobs() -> None:
    text = "dog *1\n"
    decoding = decode(text, (1, 1), ["dog"])
    for logprob, expected in ((-math.inf, 0.0), (math.nan, 0.0), (1e-7, 1.0)):
        assert patch_probabilities(decoding, [TokenLogprob(0, 3, logprob)])[0, 0] == expected


def test_region_score_is_the_expected_intersection_over_union() -> None:
    foreground = np.array([[0.9, 0.7, 0.4, 0.0]])
    region = np.array([[True, True, False, False]])
    assert region_score(foreground, region, region) == pytest.approx(1.6 / 2.4)
    assert region_score(np.array([[1.0, 1.0, 0.0, 0.0]]), region, region) == 1.0
    other = np.array([[True, True, True, False]])  # the third patch is another region of the same label
    assert region_score(foreground, region, other) == pytest.approx(1.6 / 2.0)
    assert region_score(foreground, np.zeros((1, 4), dtype=bool), other) == 0.0


def test_label_probabilities() -> None:
    grid = LabelGrid.from_mask(np.array([[True, False]]), "dog")
    assert label_probabilities(grid, np.array([[0.9, 0.7]]), "dog")[0] == pytest.approx([0.9, 0.3])
    grid = LabelGrid(("others", "dog", "cat"), np.array([[1, 2]]))
    assert label_probabilities(grid, np.array([[0.9, 0.7]]), "dog")[0] == pytest.approx([0.9, 0.15])
    with pytest.raises(KeyError):
        label_probabilities(grid, np.ones((1, 2)), "horse")


def test_no_target_score() -> None:
    empty = LabelGrid.from_mask(np.zeros((1, 2), dtype=bool), "dog")
    found = LabelGrid.from_mask(np.array([[True, False]]), "dog")
    assert no_target_score(empty, np.array([[0.9, 0.7]])) == pytest.approx(0.7)
    assert no_target_score(found, np.array([[0.9, 0.7]])) == pytest.approx(0.1)
    assert no_target_score(found, np.array([[0.9, 0.7]])) < no_target_score(found, np.array([[0.6, 0.7]]))


def test_calibration() -> None:
    values = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    assert Calibration().apply(values) is values
    softer = Calibration(temperature=2.0).apply(values)
    assert softer[3] == pytest.approx(0.75)  # logit ln 9 becomes ln 3
    assert softer[2] == pytest.approx(0.5)
    assert np.isfinite(softer).all()
    assert (np.diff(softer) > 0).all()
    assert Calibration(bias=math.log(9)).apply(values)[2] == pytest.approx(0.9)
    whole = np.ones((1, 1), dtype=bool)
    assert region_score(np.array([[0.9]]), whole, whole, Calibration(2.0)) == pytest.approx(0.75)
    decoding = decode("dog *2\n", (1, 2), ["dog"])
    tokens = [TokenLogprob(0, 3, math.log(0.9))]
    calibrated = patch_probabilities(decoding, tokens, Calibration(2.0))
    assert calibrated[0] == pytest.approx([0.75, 0.75])
    for temperature, bias in ((0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="calibrate"):
            Calibration(temperature, bias)
