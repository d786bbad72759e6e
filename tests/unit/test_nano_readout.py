"""What tokens of a descriptor read off the cells."""

import pytest
import torch

from tests.tiny_nano import SIZES
from text4seg_nano import Text4SegNanoConfig
from text4seg_nano.positions import TEXT_ROW
from text4seg_nano.readout import IMPOSSIBLE, Readout

CONFIG = Text4SegNanoConfig(**SIZES)
GRID, HIDDEN = CONFIG.grid, CONFIG.hidden_size


@pytest.fixture
def readout():
    torch.manual_seed(0)
    return Readout(CONFIG).eval()


def read(readout, cells, *positions):
    tokens = torch.randn(1, len(positions), HIDDEN, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        names, lengths = readout(tokens, cells, torch.tensor([positions]))
    return tokens, names[0], lengths[0]


def random_cells():
    return torch.randn(1, GRID * GRID, HIDDEN, generator=torch.Generator().manual_seed(2))


def test_a_token_reads_the_cell_it_stands_on(readout):
    cells = random_cells()
    tokens, names, _ = read(readout, cells, (0, 0, 1), (1, 2, 1), (GRID - 1, GRID - 1, 1))
    shares = torch.sigmoid(readout.gate(tokens))[0]
    for index, place in enumerate((0, GRID + 2, GRID * GRID - 1)):
        assert torch.allclose(names[index], shares[index] * cells[0, place], atol=1e-6)


def test_run_lengths_are_a_distribution_over_what_fits(readout):
    cells = random_cells()
    for column in range(GRID):
        _, _, (lengths,) = read(readout, cells, (1, column, 1))
        fits = GRID - column
        assert lengths[:fits].exp().sum() == pytest.approx(1.0, abs=1e-5)
        assert (lengths[fits:] == IMPOSSIBLE).all()


def test_a_run_ends_where_the_cells_stop_being_alike(readout):
    cells = torch.zeros(1, GRID * GRID, HIDDEN)
    with torch.no_grad():
        readout.alike.weight.zero_()
        readout.alike.bias.zero_()
        readout.alike.bias[0] = 1.0
    row = cells.view(GRID, GRID, HIDDEN)[1]
    row[:, 0] = 9.0
    _, _, (lengths,) = read(readout, cells, (1, 0, 1))
    assert int(lengths.argmax()) + 1 == GRID
    row[3:, 0] = -9.0
    _, _, (lengths,) = read(readout, cells, (1, 0, 1))
    assert int(lengths.argmax()) + 1 == 3
    _, _, (lengths,) = read(readout, cells, (1, 1, 1))
    assert int(lengths.argmax()) + 1 == 2
    _, _, (lengths,) = read(readout, cells, (0, 0, 1))
    assert not torch.allclose(lengths, read(readout, cells, (1, 0, 1))[2][0])


def test_nothing_is_read_outside_of_descriptors_and_past_the_end(readout):
    cells = random_cells()
    _, names, lengths = read(readout, cells, (TEXT_ROW, 5, 0), (2, 1, 0), (0, GRID, 1), (GRID, 0, 1))
    assert not names.any()
    assert not lengths[:2].any()
    assert (lengths[2] == IMPOSSIBLE).all()
