"""The codec: lossless both ways, and never failing on what a model may write."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from text4seg.descriptors import (
    OTHERS,
    Codec,
    LabelGrid,
    RepairKind,
    RowStream,
    check_label,
    decode,
    decode_answer,
    decode_strict,
    encode,
)
from text4seg.errors import DescriptorMalformedError, LabelInvalidError
from text4seg.labels import MAX_CELLS, label_problem, normalize_label

LABELS = ("dog", "dog house", "white horse", "do", "l'été", "犬", "1", "m*a*s*h", "a<b")
CODECS = st.sampled_from(list(Codec))


@st.composite
def grids(draw: st.DrawFn, labels: tuple[str, ...] = LABELS, side: int = 9) -> LabelGrid:
    rows, cols = draw(st.integers(1, side)), draw(st.integers(1, side))
    table = (OTHERS, *draw(st.permutations(labels)))
    cells = draw(st.lists(st.integers(0, len(labels)), min_size=rows * cols, max_size=rows * cols))
    return LabelGrid(table, np.array(cells).reshape(rows, cols))


# Pieces that make malformed descriptors likely, beside any text at all.
HOSTILE = st.lists(
    st.sampled_from(
        (
            *("others", "dog", "cat", "others *16\n ", "dog *4| others *12\n "),
            *(" *", "*", "16", "3", "0", "-4", "٣", "²", "9" * 30),
            *("| ", "|", "\n ", "\n", "</seg>", "<seg>", " ", "\r\n", "\t", "\x00"),
        )
    ),
    max_size=60,
).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A well-formed 2x4 or 3x4 descriptor with at most three characters changed."""
    grid = draw(grids(labels=("dog", "cat"), side=4))
    text = encode(grid, draw(CODECS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", *" |\n*1234o"])) + text[at + draw(st.integers(0, 1)) :]
    return text


TEXTS = HOSTILE | st.text(max_size=80) | damaged()


@pytest.mark.parametrize("side", [16, 24, 32])
def test_trained_form(side: int) -> None:
    mask = np.zeros((side, side), dtype=bool)
    mask[1, 5:9] = True
    text = encode(LabelGrid.from_mask(mask, "White Horse"))
    assert text.startswith(
        f"others *{side}\n others *5| white horse *4| others *{side - 9}\n others *{side}\n "
    )
    assert text.endswith(f"\n others *{side}\n")
    assert text.count("\n") == side
    assert np.array_equal(decode(text, (side, side), ["white horse"]).grid.mask("white horse"), mask)


def test_ablation_forms() -> None:
    grid = LabelGrid.from_mask(np.array([[0, 0, 1], [1, 0, 0]], dtype=bool), "cat")
    assert encode(grid, Codec.IRLE) == "others *2| cat *2| others *2\n"
    assert encode(grid, Codec.FULL) == "others| others| cat\n cat| others| others\n"


@given(grids(), CODECS)
def test_round_trip(grid: LabelGrid, codec: Codec) -> None:
    text = encode(grid, codec)
    for labels in (None, grid.labels, LABELS):
        decoding = decode(text, grid.shape, labels, codec)
        assert decoding.grid == grid
        assert decoding.report.repairs == ()
        assert not decoding.report.truncated
    assert decode_strict(text, grid.shape, LABELS, codec) == grid


@given(grids(), CODECS)
def test_spans_point_at_labels_and_counts(grid: LabelGrid, codec: Codec) -> None:
    text = encode(grid, codec)
    runs = decode(text, grid.shape, LABELS, codec).runs
    assert sum(run.length for run in runs) == grid.cells.size
    for run in runs:
        assert text[slice(*run.label_span)] == run.label == grid.labels[grid.cells[run.row, run.start]]
        if codec is Codec.FULL:
            assert run.count_span is None
        else:
            assert run.count_span is not None
            assert int(text[slice(*run.count_span)]) == run.length


@settings(max_examples=400)
@given(TEXTS, CODECS, st.none() | st.just(("dog", "cat")), st.booleans())
def test_any_text_gives_a_grid(
    text: str, codec: Codec, labels: tuple[str, ...] | None, complete: bool
) -> None:
    for read in (decode, decode_answer):
        decoding = read(text, (3, 16), labels, codec, complete=complete)
        assert decoding.grid.shape == (3, 16)
        for run in decoding.runs:
            assert run.length >= 1
            assert (decoding.grid.labels.index(run.label) == decoding.grid.cells[run.row, run.start]).all()


@settings(max_examples=600)
@given(TEXTS, CODECS, st.none() | st.just(("dog", "cat")))
@example("dog *4\n others *4\n", Codec.RRLE, None)
@example("dog *2| dog *2\n others *4\n", Codec.RRLE, None)
@example("dog *2| others *6\n", Codec.IRLE, None)
def test_strict_accepts_exactly_what_encode_writes(
    text: str, codec: Codec, labels: tuple[str, ...] | None
) -> None:
    decoding = decode(text, (2, 4), labels, codec)
    written = encode(decoding.grid, codec) == text
    assert written == (decoding.report.repairs == ())
    if not written:
        with pytest.raises(DescriptorMalformedError):
            decode_strict(text, (2, 4), labels, codec)


@given(grids(side=6), st.data())
def test_a_bad_row_never_moves_another(grid: LabelGrid, data: st.DataObject) -> None:
    lines = encode(grid).rstrip("\n").split("\n")
    bad = data.draw(st.integers(0, len(lines) - 1))
    lines[bad] = (
        data.draw(st.text(st.characters(blacklist_characters="\n<", codec="utf-8"), min_size=1)) + "."
    )
    decoding = decode("\n".join(lines) + "\n", grid.shape, LABELS)
    for row in set(range(len(lines))) - {bad}:
        assert [decoding.grid.labels[cell] for cell in decoding.grid.cells[row]] == [
            grid.labels[cell] for cell in grid.cells[row]
        ]


@settings(max_examples=300)
@given(TEXTS, CODECS, st.none() | st.just(("dog", "cat")), st.lists(st.integers(0, 400)))
def test_stream_gives_the_rows_of_the_whole(
    text: str, codec: Codec, labels: tuple[str, ...] | None, cuts: list[int]
) -> None:
    answer = "Sure:\n<seg>" + text
    stream = RowStream((3, 4), labels, codec)
    edges = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    rows = [row for a, b in pairwise(edges) for row in stream.feed(answer[a:b])]
    rows += stream.finish()
    grid = decode_answer(answer, (3, 4), labels, codec).grid
    assert [row.index for row in rows] == [0, 1, 2]
    assert [row.labels for row in rows] == [tuple(grid.labels[cell] for cell in row) for row in grid.cells]


def test_stream_gives_each_row_with_its_newline() -> None:
    stream = RowStream((2, 2), ["dog"])
    assert stream.feed("Sure:\n<se") == []
    assert stream.feed("g>dog *2") == []
    (row,) = stream.feed("\n oth")
    assert (row.index, row.labels) == (0, ("dog", "dog"))
    (row,) = stream.feed("ers *2\n</seg>")
    assert (row.index, row.labels) == (1, ("others", "others"))
    assert stream.finish() == []


def test_unfinished_text_reports_nothing_missing() -> None:
    decoding = decode("others *2\n dog *1| oth", (3, 2), ["dog"], complete=False)
    assert decoding.report.repairs == ()
    assert decoding.report.truncated
    assert decoding.grid.mask("dog").tolist() == [[False, False], [True, False], [False, False]]


def test_huge_and_repeated_text_is_read_without_effort() -> None:
    # Would exhaust memory or time if a count were a size or reading were not linear.
    for text in (
        "dog *" + "9" * 1_000_000,
        "dog *1| " * 200_000,
        "others *16\n " * 100_000,
        "\u0f74\u0f71" * 200_000,
    ):
        for codec in Codec:
            assert decode(text, (16, 16), None, codec).grid.shape == (16, 16)
            assert len(decode(text, (16, 16), ["dog"], codec).report.repairs) <= 16 * len(RepairKind)


def test_open_vocabulary_names_in_order_and_refuses_what_cannot_be_a_label() -> None:
    decoding = decode("sky *2\n tree *1| a\x07b *1\n", (2, 2))
    assert decoding.grid.labels == ("others", "sky", "tree")
    assert decoding.report.unknown_labels == ("a\x07b",)
    assert [repair.kind for repair in decoding.report.repairs] == [RepairKind.LABEL_UNKNOWN]


def test_block_repairs() -> None:
    kinds = {
        "no mask here": [RepairKind.BLOCK_MISSING],
        "<seg>dog *1\n": [RepairKind.BLOCK_UNCLOSED],
        "<seg>dog *1\n</seg><seg>others *1\n</seg>": [RepairKind.BLOCK_EXTRA],
        "<seg>dog *1\n<seg>dog *1\n</seg>": [RepairKind.BLOCK_UNCLOSED, RepairKind.BLOCK_EXTRA],
        "a <seg>dog *1\n</seg> b": [],
    }
    for answer, expected in kinds.items():
        decoding = decode_answer(answer, (1, 1), ["dog"])
        assert [repair.kind for repair in decoding.report.repairs] == expected
        assert [answer[slice(*run.label_span)] for run in decoding.runs] == (["dog"] if "<" in answer else [])


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a|b", "separates runs"),
        ("a\nb", r"U\+000A"),
        ("a\x00", r"U\+0000"),
        ("a\u202eb", r"U\+202E"),
        ("a</seg>", "tag"),
        ("<SEG>", "tag"),
        ("dog *3", "run length"),
        ("dog*3", "run length"),
        ("dog *", "run length"),
        ("* dog", "run length"),
        ("dog *٣ x", "run length"),
        ("Others ", "background"),
        ("x" * 257, "longer"),
        ("\u0f71\u0f74" * 600, "longer"),
    ],
)
def test_labels_that_cannot_be_written_are_refused(label: str, why: str) -> None:
    with pytest.raises(LabelInvalidError, match=why) as caught:
        check_label(label, "labels[4]")
    assert caught.value.field == "labels[4]"


@given(st.text(max_size=40))
def test_an_accepted_label_is_canonical_and_survives_the_codec(text: str) -> None:
    if label_problem(text) is None:
        label = check_label(text)
        assert check_label(label) == normalize_label(label) == label
        grid = LabelGrid((OTHERS, label), np.array([[0, 1], [1, 1]]))
        for codec in Codec:
            assert decode_strict(encode(grid, codec), (2, 2), None, codec) == grid


def test_grid_invariants() -> None:
    with pytest.raises(ValueError, match="first label"):
        LabelGrid(("dog",), np.zeros((1, 1), dtype=int))
    with pytest.raises(ValueError, match="outside"):
        LabelGrid((OTHERS,), np.ones((1, 1), dtype=int))
    with pytest.raises(ValueError, match="repeated"):
        LabelGrid((OTHERS, "a", "a"), np.ones((1, 1), dtype=int))
    with pytest.raises(ValueError, match="canonical"):
        LabelGrid((OTHERS, "Dog"), np.ones((1, 1), dtype=int))
    with pytest.raises(ValueError, match="integers"):
        LabelGrid((OTHERS,), np.zeros((1, 1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        decode("", (1, MAX_CELLS + 1))
    with pytest.raises(LabelInvalidError):
        decode("", (1, 1), ["a|b"])
    grid = LabelGrid.from_mask(np.ones((2, 3), dtype=bool), "dog")
    with pytest.raises(ValueError, match="read-only"):
        grid.cells[0, 0] = 0
    with pytest.raises(KeyError):
        grid.mask("cat")
    assert grid.present == ("dog",)
    assert grid.shape == (2, 3)


def test_equality_is_by_name() -> None:
    one = LabelGrid((OTHERS, "a", "b"), np.array([[1, 2, 0]]))
    two = LabelGrid((OTHERS, "c", "b", "a"), np.array([[3, 2, 0]]))
    assert one == two
    assert hash(one) == hash(two)
    assert one != LabelGrid((OTHERS, "a", "b"), np.array([[2, 1, 0]]))
    assert one != LabelGrid((OTHERS, "a", "b"), np.array([[1], [2], [0]]))
    assert one != "a"
