"""The aligned mask prompt against segment-anything's own geometry."""

import math

import numpy as np
import pytest

from text4seg.prompts import mask_prompt_aligned

transforms = pytest.importorskip("segment_anything.utils.transforms")

IMAGE_SIZES = [(480, 640), (640, 480), (512, 512), (1200, 1601), (333, 1000), (97, 41), (3000, 2000)]


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_aligned_prompt_covers_the_part_that_sam_gives_the_image(size):
    height, width = transforms.ResizeLongestSide.get_preprocess_shape(*size, 1024)
    prompt = mask_prompt_aligned(np.ones((16, 16), dtype=np.bool_), size)
    assert prompt.shape == (1, 256, 256)
    assert prompt.dtype == np.float32
    # SAM pads right and bottom; a block belongs to the image when its centre does.
    centres = 4 * np.arange(256) + 2
    expected = (centres < height)[:, None] & (centres < width)
    np.testing.assert_array_equal(prompt[0] > 0, expected)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_aligned_prompt_agrees_with_sams_own_transform_of_points(size):
    mask = np.zeros(size, dtype=np.bool_)
    mask[size[0] // 3 : 2 * size[0] // 3, size[1] // 5 : 3 * size[1] // 5] = True
    prompt = mask_prompt_aligned(mask, size)[0]
    # Every image pixel's centre, taken to SAM's frame by SAM's code and then to the prompt.
    rows, columns = np.divmod(np.random.default_rng(2).choice(mask.size, 4000), size[1])
    centres = np.stack((columns, rows), axis=1) + 0.5
    blocks = (transforms.ResizeLongestSide(1024).apply_coords(centres, size) / 4).astype(int)
    # A block answers for the pixel at its centre: compare where the mask is the same all round the pixel.
    reach = math.ceil(max(size) / 256)
    near = [
        mask[np.clip(rows + down, 0, size[0] - 1), np.clip(columns + across, 0, size[1] - 1)]
        for down in (-reach, 0, reach)
        for across in (-reach, 0, reach)
    ]
    sure = np.all(near, axis=0) | ~np.any(near, axis=0)
    assert sure.mean() > 0.8
    in_frame = blocks[:, 1] < np.ceil(256 * size[0] / max(size)) - 1
    in_frame &= blocks[:, 0] < np.ceil(256 * size[1] / max(size)) - 1
    use = sure & in_frame
    np.testing.assert_array_equal(prompt[blocks[use, 1], blocks[use, 0]] > 0, mask[rows, columns][use])
