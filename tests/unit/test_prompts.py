import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from text4seg.masks import upsample
from text4seg.prompts import mask_logits, mask_prompt_aligned, mask_prompt_stretched, sample_points

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
IMAGE_SIZES = [(480, 640), (640, 480), (512, 512), (1200, 1601), (333, 1000), (97, 41), (3000, 2000)]
FULL = math.log(999)


def blob(height, width):
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 3 : 2 * height // 3, width // 5 : 3 * width // 5] = True
    return mask


# Points


@given(MASKS, st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
def test_points_lie_on_their_side_and_never_repeat(mask, positive, negative, seed):
    points, labels = sample_points(mask, positive, negative, np.random.default_rng(seed))
    assert points.dtype == np.float32
    assert labels.dtype == np.int32
    assert points.shape == (labels.size, 2)
    columns, rows = points.astype(int).T
    np.testing.assert_array_equal(mask[rows, columns], labels == 1)
    # As many as asked for, or all there are; the positive ones first.
    assert np.count_nonzero(labels == 1) == min(positive, np.count_nonzero(mask))
    assert np.count_nonzero(labels == 0) == min(negative, np.count_nonzero(~mask))
    assert labels.tolist() == sorted(labels.tolist(), reverse=True)
    assert len(np.unique(points, axis=0)) == len(points)


def test_equal_generators_give_equal_points_and_others_do_not():
    draws = [sample_points(blob(90, 120), 10, 10, np.random.default_rng(seed))[0] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_points_are_drawn_uniformly():
    mask = np.zeros((4, 5), dtype=np.bool_)
    mask[1:3, 1:4] = True
    rng = np.random.default_rng(0)
    hits = np.zeros(mask.shape)
    for _ in range(3000):
        points, _labels = sample_points(mask, 2, 7, rng)
        columns, rows = points.astype(int).T
        hits[rows, columns] += 1
    assert np.abs(hits[mask] / 3000 - 2 / 6).max() < 0.05
    assert np.abs(hits[~mask] / 3000 - 7 / 14).max() < 0.05


def test_a_negative_number_of_points_is_refused():
    with pytest.raises(ValueError, match="negative"):
        sample_points(blob(4, 4), -1, 2, np.random.default_rng(0))


# Logits


def test_logits_are_the_inverse_sigmoid_within_its_limits():
    logits = mask_logits(np.array([[False, True]]))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, [[-6.9067548, 6.9067548]], rtol=1e-6)
    probabilities = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    sigmoid = 1 / (1 + np.exp(-mask_logits(probabilities, eps=0.05)))
    np.testing.assert_allclose(sigmoid, [0.05, 0.1, 0.5, 0.9, 0.95], rtol=1e-6)


@pytest.mark.parametrize("eps", [0, 0.5, -1, float("nan")])
def test_an_eps_without_meaning_is_refused(eps):
    with pytest.raises(ValueError, match="eps"):
        mask_logits(np.eye(2), eps)


# Mask prompts


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        # What ResizeLongestSide.get_preprocess_shape of segment-anything answers for a target of 1024.
        ((480, 640), (768, 1024)),
        ((640, 480), (1024, 768)),
        ((512, 512), (1024, 1024)),
        ((1200, 1601), (768, 1024)),
        ((333, 1000), (341, 1024)),
        ((97, 41), (1024, 433)),
        ((3000, 2000), (1024, 683)),
    ],
)
def test_the_aligned_prompt_covers_the_part_that_sam_gives_the_image(size, resized):
    prompt = mask_prompt_aligned(np.ones((16, 16), dtype=np.bool_), size)
    assert prompt.shape == (1, 256, 256)
    assert prompt.dtype == np.float32
    # SAM pads right and bottom; a block belongs to the image when its centre does.
    centres = 4 * np.arange(256) + 2
    expected = (centres < resized[0])[:, None] & (centres < resized[1])
    np.testing.assert_allclose(prompt[0], np.where(expected, FULL, -FULL), rtol=1e-6)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_a_mask_and_its_grid_make_the_same_aligned_prompt(size):
    grid = np.random.default_rng(4).random((16, 16)) < 0.5
    prompt = mask_prompt_aligned(grid, size)
    from_mask = mask_prompt_aligned(upsample(grid, size), size)
    # Cells end on whole pixels in one and not in the other, so their outlines may differ by one block.
    assert (prompt != from_mask).mean() < 0.13
    if size == (512, 512):
        np.testing.assert_array_equal(prompt, from_mask)


def test_the_two_variants_agree_on_square_images_only():
    mask = blob(60, 60)
    np.testing.assert_array_equal(mask_prompt_aligned(mask, (300, 300)), mask_prompt_stretched(mask))
    assert not np.array_equal(mask_prompt_aligned(mask, (300, 400)), mask_prompt_stretched(mask))


def test_the_stretched_prompt_fills_the_frame():
    prompt = mask_prompt_stretched(blob(30, 90))
    assert prompt.shape == (1, 256, 256)
    assert prompt.dtype == np.float32
    inside = np.zeros((256, 256), dtype=np.bool_)
    inside[85:171, 51:154] = True
    np.testing.assert_array_equal(prompt[0] > 0, inside)
    np.testing.assert_allclose(np.abs(prompt), FULL, rtol=1e-6)


def test_probabilities_are_interpolated():
    grid = np.array([[0.0, 1.0]])
    for prompt in (mask_prompt_stretched(grid), mask_prompt_aligned(grid, (200, 200))):
        line = prompt[0, 128]
        assert (np.diff(line) >= 0).all()
        assert abs(line[127] + line[128]) < 1e-4
        assert 0 < line[140] < FULL / 2
    padded = mask_prompt_aligned(np.ones((4, 4)), (100, 200))[0]
    np.testing.assert_allclose(padded[:128], FULL, rtol=1e-6)
    np.testing.assert_allclose(padded[128:], -FULL, rtol=1e-6)


def test_an_image_thinner_than_a_block_keeps_its_object():
    prompt = mask_prompt_aligned(np.array([[False, True]]), (1, 4000))[0]
    assert (prompt[0, :128] < 0).all()
    assert (prompt[0, 128:] > 0).all()
    assert (prompt[1:] < 0).all()


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="positive"):
        mask_prompt_aligned(blob(4, 4), (0, 10))
