"""GrabCut on made-up scenes, whose outlines are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.refiner.grabcut_model import GrabCutModel
from services.refiner.refine import upsample_coarse
from text4seg.masks import coverage, split_instances, to_grid
from text4seg.metrics import boundary_f_score, iou

MODEL = GrabCutModel()


def ellipse(size, centre=(0.5, 0.5), radii=(0.3, 0.2), turn=0.5):
    height, width = size
    down, across = np.mgrid[:height, :width]
    down, across = (down + 0.5) / height - centre[0], (across + 0.5) / width - centre[1]
    along, off = down * np.cos(turn) + across * np.sin(turn), across * np.cos(turn) - down * np.sin(turn)
    return (along / radii[0]) ** 2 + (off / radii[1]) ** 2 < 1


def scene(size, seed=0, noise=25):
    """A reddish ellipse before a bluish gradient, both noisy: image and the ellipse's mask."""
    rng = np.random.default_rng(seed)
    truth = ellipse(
        size, centre=rng.uniform(0.4, 0.6, 2), radii=rng.uniform(0.15, 0.3, 2), turn=rng.uniform(0, np.pi)
    )
    shade = np.linspace(60, 140, size[1])[None, :, None]
    image = np.broadcast_to(shade * np.array([0.5, 0.8, 1.2]), (*size, 3)).copy()
    image[truth] = [170, 90, 70]
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8), truth


def sharpen(image, coarse):
    return MODEL.decode(MODEL.embed(image), [coarse.astype(np.float32)], 0)[0]


def turned_over(grid, share, rng):
    """Flip a share of the cells along the border of the mask."""
    padded = np.pad(grid, 1, mode="edge")
    around = [padded[row : row + 16, col : col + 16] for row in range(3) for col in range(3)]
    border = np.any(around, axis=0) & ~np.all(around, axis=0)
    return grid ^ (border & (rng.random(grid.shape) < share))


@pytest.mark.parametrize("size", [(240, 320), (320, 240), (700, 1100)])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_outline_that_the_grid_lost(size, seed):
    image, truth = scene(size, seed)
    coarse = to_grid(truth, (16, 16))
    sharp, guess = sharpen(image, coarse), upsample_coarse(coarse.astype(np.float32), size)
    assert iou(sharp.mask, truth) > 0.97
    assert iou(guess, truth) < 0.95
    assert boundary_f_score(sharp.mask, truth) > 0.95


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_wrong_cells_along_the_border_do_not_make_it_worse_than_the_coarse_mask(share):
    rng = np.random.default_rng(8)
    gains = []
    for seed in range(12):
        image, truth = scene((192, 256), seed)
        coarse = turned_over(to_grid(truth, (16, 16)), share, rng)
        guess = upsample_coarse(coarse.astype(np.float32), truth.shape)
        gains.append(iou(sharpen(image, coarse).mask, truth) - iou(guess, truth))
    assert min(gains) > -0.01
    assert np.mean(gains) > 0.05


def test_shares_of_cells_are_taken_too():
    image, truth = scene((240, 320), 1)
    assert iou(sharpen(image, coverage(truth, (16, 16))).mask, truth) > 0.97


def test_several_objects_stay_several():
    size = (240, 320)
    truth = ellipse(size, (0.3, 0.25), (0.14, 0.14)) | ellipse(size, (0.6, 0.75), (0.18, 0.12))
    image = np.full((*size, 3), (40, 90, 50), dtype=np.uint8)
    image[truth] = (200, 190, 60)
    sharp = sharpen(image, to_grid(truth, (16, 16)))
    assert len(split_instances(sharp.mask)) == 2
    assert iou(sharp.mask, truth) > 0.97


def test_specks_and_pinholes_are_cleaned_away():
    image, truth = scene((256, 256), 2, noise=0)
    rng = np.random.default_rng(5)
    odd = rng.random(truth.shape) < 0.01
    image[odd] = np.where(truth[odd, None], [60, 80, 130], [170, 90, 70])
    sharp = sharpen(image, to_grid(truth, (16, 16)))
    assert len(split_instances(sharp.mask)) == 1
    assert len(split_instances(~sharp.mask)) == 1


def test_an_image_without_any_edge_keeps_the_coarse_mask_nearly_as_it_is():
    coarse = to_grid(ellipse((240, 320)), (16, 16))
    sharp = sharpen(np.full((240, 320, 3), 128, dtype=np.uint8), coarse)
    assert iou(sharp.mask, upsample_coarse(coarse.astype(np.float32), (240, 320))) > 0.6


def test_an_object_of_the_surroundings_colours_does_not_vanish():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[8, 8] = 1
    sharp = sharpen(image, coarse)
    assert 30 <= sharp.mask.sum() <= 120  # a cell has 100 pixels, interpolation leaves 39


def test_a_full_mask_stays_full():
    image, _ = scene((96, 128))
    sharp = sharpen(image, np.ones((16, 16)))
    assert sharp.mask.all()
    assert sharp.score == 0.5


def test_the_seed_makes_no_difference():
    image, truth = scene((96, 128))
    embedding, coarse = MODEL.embed(image), to_grid(truth, (16, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        MODEL.decode(embedding, [coarse], 0)[0].mask, MODEL.decode(embedding, [coarse], 9)[0].mask
    )


@settings(max_examples=40)
@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3, 16]), st.floats(0, 1), st.integers(0, 99)
)
def test_whatever_the_image_and_the_mask_they_agree(height, width, cells, share, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    coarse = (rng.random((cells, cells)) < share).astype(np.float32)
    coarse[0, 0] = 1
    sharp = sharpen(image, coarse)
    guess = upsample_coarse(coarse, (height, width))
    assert iou(sharp.mask, guess) >= 0.5
    assert 0.5 <= sharp.score <= 1
