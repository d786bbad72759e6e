"""What tokens of a descriptor read off the cells."""

import pytest
import torch

from tests.tiny_nano import SIZES
from text4seg.descriptors import Codec
from text4seg_nano import Text4SegNanoConfig
from text4seg_nano.positions import TEXT_ROW
from text4seg_nano.readout import IMPOSSIBLE, UNASKED, Readout

CONFIG = Text4SegNanoConfig(**SIZES, grid=6)
GRID, HIDDEN = CONFIG.grid, CONFIG.hidden_size


def readout_for(codec):
    torch.manual_seed(0)
    return Readout(Text4SegNanoConfig(**SIZES, grid=GRID, codec=codec)).eval()


@pytest.fixture
def readout():
    return readout_for(Codec.RRLE)


def read(readout, cells, *positions, asked=None):
    tokens = torch.randn(1, len(positions), HIDDEN, generator=torch.Generator().manual_seed(1))
    asked = torch.zeros(1, GRID * GRID) if asked is None else asked
    with torch.inference_mode():
        names, others, lengths = readout(tokens, cells, asked, torch.tensor([positions]))
    return tokens, names[0], lengths[0], others[0, :, 0]


def random_cells():
    return torch.randn(1, GRID * GRID, HIDDEN, generator=torch.Generator().manual_seed(2))


def test_a_token_reads_the_cell_it_stands_on(readout):
    cells = random_cells()
    tokens, names, _, _ = read(readout, cells, (0, 0, 1), (1, 2, 1), (GRID - 1, GRID - 1, 1))
    shares = torch.sigmoid(readout.gate(tokens))[0]
    for index, place in enumerate((0, GRID + 2, GRID * GRID - 1)):
        assert torch.allclose(names[index], shares[index] * cells[0, place], atol=1e-6)


def test_run_lengths_are_a_distribution_over_what_fits(readout):
    cells = random_cells()
    for column in range(GRID):
        _, _, (lengths,), _ = read(readout, cells, (1, column, 1))
        fits = GRID - column
        assert lengths[:fits].exp().sum() == pytest.approx(1.0, abs=1e-5)
        assert (lengths[fits:] == IMPOSSIBLE).all()


def test_image_wise_run_lengths_are_a_distribution_over_the_rest_of_the_image():
    readout, cells = readout_for(Codec.IRLE), random_cells()
    for place in range(GRID * GRID):
        _, _, (lengths,), _ = read(readout, cells, (*divmod(place, GRID), 1))
        fits = GRID * GRID - place
        assert lengths.shape == (GRID * GRID,)
        assert lengths[:fits].exp().sum() == pytest.approx(1.0, abs=1e-5)
        assert (lengths[fits:] == IMPOSSIBLE).all()
    _, _, lengths, _ = read(readout, cells, (GRID, 0, 1), (TEXT_ROW, 3, 0))
    assert (lengths[0] == IMPOSSIBLE).all()
    assert (lengths[1] == IMPOSSIBLE).all()


def test_within_a_row_both_run_lengths_are_read_alike():
    cells = random_cells()
    by_row, by_image = (
        read(readout_for(codec), cells, (1, 2, 1))[2][0] for codec in (Codec.RRLE, Codec.IRLE)
    )
    assert torch.allclose(by_row[: GRID - 3], by_image[: GRID - 3])
    further = float(by_image[GRID - 3 :].exp().sum())
    assert float(by_row[GRID - 3].exp()) == pytest.approx(further, rel=1e-4)


def test_an_image_wise_run_ends_where_the_cells_stop_being_alike():
    readout, cells = readout_for(Codec.IRLE), torch.zeros(1, GRID * GRID, HIDDEN)
    with torch.no_grad():
        readout.alike.weight.zero_()
        readout.alike.bias.zero_()
        readout.alike.bias[0] = 1.0
    cells[..., 0] = 9.0
    assert int(read(readout, cells, (1, 4, 1))[2].argmax()) + 1 == GRID * GRID - GRID - 4
    cells[:, 3 * GRID + 1 :, 0] = -9.0
    assert int(read(readout, cells, (1, 4, 1))[2].argmax()) + 1 == GRID + 3


def test_in_full_length_only_names_are_read():
    cells = random_cells()
    _, names, lengths, others = read(readout_for(Codec.FULL), cells, (1, 2, 1))
    assert lengths.shape == (1, 0)
    _, same, _, doubts = read(readout_for(Codec.RRLE), cells, (1, 2, 1))
    assert torch.equal(names, same)
    assert torch.equal(others, doubts)


def test_a_run_ends_where_the_cells_stop_being_alike(readout):
    cells = torch.zeros(1, GRID * GRID, HIDDEN)
    with torch.no_grad():
        readout.alike.weight.zero_()
        readout.alike.bias.zero_()
        readout.alike.bias[0] = 1.0
    row = cells.view(GRID, GRID, HIDDEN)[1]
    row[:, 0] = 9.0
    _, _, (lengths,), _ = read(readout, cells, (1, 0, 1))
    assert int(lengths.argmax()) + 1 == GRID
    row[3:, 0] = -9.0
    _, _, (lengths,), _ = read(readout, cells, (1, 0, 1))
    assert int(lengths.argmax()) + 1 == 3
    _, _, (lengths,), _ = read(readout, cells, (1, 1, 1))
    assert int(lengths.argmax()) + 1 == 2
    _, _, (lengths,), _ = read(readout, cells, (0, 0, 1))
    assert not torch.allclose(lengths, read(readout, cells, (1, 0, 1))[2][0])


def test_nothing_is_read_outside_of_descriptors_and_past_the_end(readout):
    cells = random_cells()
    _, names, lengths, others = read(readout, cells, (TEXT_ROW, 5, 0), (2, 1, 0), (0, GRID, 1), (GRID, 0, 1))
    assert not names.any()
    assert not others.any()
    assert (lengths[:2] == IMPOSSIBLE).all()
    assert (lengths[2] == IMPOSSIBLE).all()


def test_a_run_of_others_ends_at_a_cell_that_is_asked_for(readout):
    cells, asked = torch.zeros(1, GRID * GRID, HIDDEN), torch.full((1, GRID * GRID), -5.0)
    with torch.no_grad():
        for layer in (readout.alike, readout.follow):
            layer.weight.zero_()
            layer.bias.zero_()
        readout.follow.bias.fill_(-2.0)
    assert int(read(readout, cells, (1, 0, 1), asked=asked)[2].argmax()) + 1 == GRID
    asked.view(GRID, GRID)[1, 2] = 5.0
    assert int(read(readout, cells, (1, 0, 1), asked=asked)[2].argmax()) + 1 == 2
    assert int(read(readout, cells, (0, 0, 1), asked=asked)[2].argmax()) + 1 == GRID


def test_a_label_is_less_likely_others_where_something_is_asked_for(readout):
    cells, asked = torch.zeros(1, GRID * GRID, HIDDEN), torch.full((1, GRID * GRID), -5.0)
    with torch.no_grad():
        readout.doubt.weight.zero_()
        readout.doubt.bias.fill_(2.0)
    asked.view(GRID, GRID)[1, 2] = 5.0
    _, _, _, others = read(readout, cells, (1, 2, 1), (1, 1, 1), (1, GRID, 1), asked=asked)
    assert others.tolist() == [-10.0, 10.0, 0.0]


def test_cells_are_asked_for_by_the_words_that_are_meant(readout):
    generator = torch.Generator().manual_seed(3)
    words, states = (torch.randn(1, 3, HIDDEN, generator=generator) for _ in range(2))
    others = torch.zeros(HIDDEN)
    cells = torch.stack([words[0, 1], -words[0, 1]])[None]
    with torch.no_grad():
        readout.meant.weight.copy_(10 * (states[:, 1] - states[:, [0, 2]].mean(1)))
        readout.meant.bias.zero_()
    text = torch.ones(1, 3, dtype=torch.bool)
    with torch.inference_mode():
        found = readout.asked(cells, states, words, others, text)[0]
        without = readout.asked(cells, states, words, others, text & (torch.arange(3) != 1))[0]
        wordless = readout.asked(cells, states, words, others, text & False)[0]
    assert found[0] == pytest.approx(float(cells[0, 0] @ words[0, 1]), rel=1e-3)
    assert found[1] < 0
    assert without[0] < found[0] - 5
    assert wordless.tolist() == pytest.approx([UNASKED] * 2, abs=1e-3)
