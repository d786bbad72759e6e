"""Coarse masks and views for training the light refiner."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")

from text4seg.masks import to_grid
from text4seg.metrics import iou
from training.nano.photos import Photo
from training.refiner import coarse as making
from training.refiner.coarse import coarse_of, spoiled, turn_over
from training.refiner.views import TRUTH_SIDE, draw_view, drawn_photos, is_held_out, targets_of


def disc(size=128, radius=40):
    rows, columns = np.ogrid[:size, :size]
    return (rows - size // 2) ** 2 + (columns - size // 2) ** 2 < radius**2


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_only_border_cells_are_turned_over(seed, share):
    grid = to_grid(disc(), (16, 16))
    before = grid.copy()
    turned = turn_over(grid, share, np.random.default_rng(seed))
    np.testing.assert_array_equal(grid, before)
    for row, column in np.argwhere(turned != grid):
        around = grid[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert around.any()
        assert not around.all()


def test_all_of_the_border_or_none():
    grid = to_grid(disc(), (16, 16))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(turn_over(grid, 0, rng), grid)
    assert (turn_over(grid, 1, rng) != grid).sum() > 20
    np.testing.assert_array_equal(turn_over(np.ones((4, 4), bool), 1, rng), np.ones((4, 4), bool))


@given(st.integers(0, 2**32 - 1))
def test_a_spoiled_mask_still_tells_of_the_object(seed):
    coarse = spoiled(disc(), np.random.default_rng(seed))
    assert coarse.dtype == np.float32
    assert coarse.shape in making.SHAPES
    assert 0 <= coarse.min() <= coarse.max() <= 1
    truth = to_grid(disc(), coarse.shape)
    assert ((coarse >= 0.5) & truth).sum() / ((coarse >= 0.5) | truth).sum() > 0.4
    np.testing.assert_array_equal(coarse, spoiled(disc(), np.random.default_rng(seed)))


def test_a_shift_moves_the_mask_by_a_cell(monkeypatch):
    for name, value in (("SHIFTED", 1.0), ("SHARES", 0.0), ("MOST_FLIPPED", 0.0), ("SHAPES", ((16, 16),))):
        monkeypatch.setattr(making, name, value)
    truth = to_grid(disc(), (16, 16))
    offsets = set()
    for seed in range(60):
        (found,) = {
            (down, across)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if np.array_equal(
                spoiled(disc(), np.random.default_rng(seed)) == 1, np.roll(truth, (down, across), (0, 1))
            )
        }
        offsets.add(found)
    assert len(offsets) == 9


def test_nothing_is_made_of_what_no_cell_shows():
    speck = np.zeros((256, 256), bool)
    speck[3:5, 3:5] = True
    assert all(spoiled(speck, np.random.default_rng(seed)) is None for seed in range(20))


def test_a_guess_is_taken_unless_it_is_of_another_thing(monkeypatch):
    monkeypatch.setattr(making, "GUESSED", 1.0)
    guess = to_grid(disc(radius=30), (8, 8))
    taken = coarse_of(disc(), guess, np.random.default_rng(0))
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, guess)
    for other in (~guess, np.zeros((8, 8), bool), None):
        spoilt = coarse_of(disc(), other, np.random.default_rng(3)) >= 0.5
        assert iou(spoilt, to_grid(disc(), spoilt.shape)) > 0.4


def photo():
    image = np.zeros((60, 100, 3), np.uint8)
    masks = [np.zeros((60, 100), bool) for _ in range(4)]
    masks[0][5:30, 10:40] = True
    masks[1][40:55, 60:90] = True
    masks[2][0:50, 45:55] = True
    masks[3][0, 0] = True
    for number, mask in enumerate(masks):
        image[mask] = 50 * (number + 1)
    return Photo(7, image, ("cat", "cat", "dog", "cup"), tuple(masks), True)


def test_targets_are_instances_and_what_shares_a_name():
    shown = photo()
    targets = targets_of(shown)
    assert len(targets) == 5
    np.testing.assert_array_equal(targets[4], shown.masks[0] | shown.masks[1])


def test_the_whole_view_shows_all_but_what_is_too_small():
    shown = photo()
    view = draw_view(shown, np.random.default_rng(0), whole=True)
    np.testing.assert_array_equal(view.image, shown.image)
    assert len(view.masks) == 4
    shares = sorted(mask.mean() for mask in view.masks)
    expected = sorted(target.mean() for target in targets_of(shown) if target.sum() > 1)
    np.testing.assert_allclose(shares, expected, atol=0.01)


@pytest.mark.parametrize("seed", range(8))
def test_masks_follow_their_objects_into_crops_and_mirrors(seed):
    view = draw_view(photo(), np.random.default_rng(seed), whole=False)
    height, width, _ = view.image.shape
    assert 0.6 * 60 <= height <= 60
    assert 0.6 * 100 <= width <= 100
    rows = np.arange(TRUTH_SIDE) * height // TRUTH_SIDE
    columns = np.arange(TRUTH_SIDE) * width // TRUTH_SIDE
    squashed = view.image[rows][:, columns, 0]
    assert view.masks
    for mask in view.masks:
        colours, counts = np.unique(squashed[mask], return_counts=True)
        # Two cats at most, each in its own colour; a pixel of something else at the edge.
        assert counts[colours == 0].sum() < 0.1 * mask.sum()
        main = colours[counts > 0.1 * mask.sum()]
        assert set(main) <= {50, 100} or set(main) == {150}


def test_drawn_photos_show_what_their_masks_say():
    for drawn in drawn_photos(5, seed=1):
        assert drawn.image.dtype == np.uint8
        assert len(drawn.names) == len(drawn.masks) == 3
        assert np.sum(drawn.masks, axis=0).max() == 1
        assert drawn.image[drawn.masks[2]].mean() > drawn.image[~np.any(drawn.masks, axis=0)].mean()
    np.testing.assert_array_equal(drawn_photos(1, 2)[0].image, drawn_photos(1, 2)[0].image)


def test_one_photograph_in_five_is_held_out():
    assert 0.17 < np.mean([is_held_out(number) for number in range(3000)]) < 0.23
