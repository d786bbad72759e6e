"""Where tokens stand in the plane of the image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_nano import GRID, tiny_processor, tiny_tokenizer
from text4seg.descriptors import Codec, LabelGrid, encode
from text4seg_nano.positions import TEXT_ROW, grid_positions
from training.nano.start import config_for

CONFIGS = {codec: config_for(tiny_tokenizer(), grid=GRID, codec=codec) for codec in Codec}
CONFIG = CONFIGS[Codec.RRLE]


def read(text, codec=Codec.RRLE):
    """Tokens of a prompt, and the position of each."""
    ids = tiny_processor()(text=text)["input_ids"]
    return tiny_tokenizer().convert_ids_to_tokens(ids[0]), [
        (row, column) for row, column, _ in grid_positions(ids, CONFIGS[codec])[0].tolist()
    ]


def test_visual_tokens_stand_on_their_cells():
    _, places = read("<|user|><image>where is the cat")
    assert places[1 : 1 + GRID * GRID] == [(row, column) for row in range(GRID) for column in range(GRID)]


def test_text_stands_on_a_line_that_visual_tokens_do_not_lengthen():
    _, places = read("<|user|><image>the cat<|assistant|>Sure")
    assert [place for place in places if place[0] < 0] == [(TEXT_ROW, column) for column in range(5)]


def test_text_alone():
    assert read("the cat")[1] == [(TEXT_ROW, 0), (TEXT_ROW, 1)]


def test_descriptor_tokens_stand_on_the_cell_described_next():
    tokens, places = read("<seg>others *3| white horse *1\n others *4\n</seg> mat")
    expected = {
        "<seg>": (0, 0),
        "others": (0, 0),
        " *3": (0, 3),
        "| ": (0, 3),
        "white": (0, 3),
        "Ġhorse": (0, 3),
        " *1": (0, 4),
        "\n ": (1, 0),
        " *4": (1, 4),
        "Ċ": (1, 4),
        "</seg>": (TEXT_ROW, 0),
        "Ġmat": (TEXT_ROW, 1),
    }
    for token, place in expected.items():
        assert places[tokens.index(token)] == place, token
    assert places[len(tokens) - tokens[::-1].index("others") - 1] == (1, 0)


def test_tokens_inside_of_a_block_are_marked():
    ids = tiny_processor()(text="<|user|><image>cat<|assistant|>Sure\n<seg>cat *4\n</seg><|end|>")[
        "input_ids"
    ]
    described = grid_positions(ids, CONFIG)[0, :, 2].bool()
    assert tiny_tokenizer().convert_ids_to_tokens(ids[0, described]) == ["<seg>", "cat", " *4", "Ċ"]


def test_separators_outside_of_a_block_are_text():
    _, places = read("cat *3\n cat")
    assert places == [(TEXT_ROW, column) for column in range(len(places))]


def test_counts_and_rows_never_leave_the_grid():
    _, places = read("<seg>" + "cat *32\n " * 9 + "cat *1")
    rows, columns = zip(*places, strict=True)
    assert max(rows) == max(columns) == GRID


def test_second_turn_begins_at_the_first_cell_again():
    one = "<|user|><image>cat<|assistant|>Sure\n<seg>cat *4\n cat *4\n</seg><|end|>"
    tokens, places = read(one + "<|user|>the mat<|assistant|><seg>mat *2")
    second = len(tokens) - tokens[::-1].index("<seg>") - 1
    assert places[second:] == [(0, 0), (0, 0), (0, 2)]
    lines = [column for row, column in places if row == TEXT_ROW]
    assert lines == list(range(len(lines)))


def test_padding_takes_no_place():
    processor = tiny_processor()
    both = processor(text=["the cat", "the white horse on the mat"])["input_ids"]
    alone = processor(text="the cat")["input_ids"]
    assert both[0, 0] == CONFIG.pad_token_id
    assert torch.equal(grid_positions(both, CONFIG)[:1, -2:], grid_positions(alone, CONFIG))


def test_no_tokens():
    assert grid_positions(torch.zeros((2, 0), dtype=torch.long), CONFIG).shape == (2, 0, 3)


@given(
    st.lists(st.integers(0, len(tiny_tokenizer()) - 1), min_size=1, max_size=40),
    st.sampled_from(Codec),
    st.data(),
)
def test_positions_depend_only_on_the_text_before(tokens, codec, data):
    end = data.draw(st.integers(1, len(tokens)))
    whole = grid_positions(torch.tensor([tokens]), CONFIGS[codec])
    assert torch.equal(grid_positions(torch.tensor([tokens[:end]]), CONFIGS[codec]), whole[:, :end])


@given(st.lists(st.integers(0, 2), min_size=GRID**2, max_size=GRID**2), st.sampled_from(Codec))
def test_labels_of_every_codec_stand_on_what_they_describe(cells, codec):
    """The first word of a label stands where its run begins; the end stands behind the last cell."""
    grid = LabelGrid(("others", "cat", "white horse"), np.array(cells, np.int16).reshape(GRID, GRID))
    tokens, places = read(f"<seg>{encode(grid, codec)}</seg>", codec)
    expected = []
    for place, label in enumerate(cells):
        new_row = place % GRID == 0 and codec is not Codec.IRLE
        if place == 0 or new_row or codec is Codec.FULL or label != cells[place - 1]:
            expected.append(("others", "cat", "white")[label])
            expected.append(divmod(place, GRID))
    words = [(token, place) for token, place in zip(tokens, places, strict=True)]
    labels = [pair for pair in words if pair[0] in ("others", "cat", "white")]
    assert [part for pair in labels for part in pair] == expected
    (end,) = [place for token, place in words if token == "Ċ"]
    assert (
        end
        == {
            Codec.RRLE: (GRID - 1, GRID),
            Codec.IRLE: (GRID, 0),
            Codec.FULL: (GRID - 1, GRID - 1),
        }[codec]
    )


def test_a_run_goes_on_in_the_next_row_in_image_wise_run_lengths():
    tokens, places = read("<seg>others *6| white horse *3| others *32", Codec.IRLE)
    expected = {" *6": (1, 2), "| ": (1, 2), "Ġhorse": (1, 2), " *3": (2, 1), " *32": (GRID, 0)}
    for token, place in expected.items():
        assert places[tokens.index(token)] == place, token


def test_run_lengths_do_not_move_in_full_length():
    tokens, places = read("<seg>cat *3| white horse| cat\n cat", Codec.FULL)
    assert tokens[-2:] == ["\n ", "cat"]
    assert places == [(0, 0)] * 3 + [(0, 1)] * 3 + [(0, 2)] * 2 + [(1, 0)] * 2


@pytest.mark.parametrize("count", [1, 2, 31, 32])
def test_every_count_moves_by_its_number(count):
    config = config_for(tiny_tokenizer(), grid=32)
    ids = tiny_tokenizer()(f"<seg>cat *{count}", return_tensors="pt")["input_ids"]
    assert grid_positions(ids, config)[0, -1].tolist() == [0, count, 1]
