"""Prompts for SAM (segment anything) made from a coarse mask: points and mask logits.

The steps are those of the Text4Seg paper, appendix A.1: points drawn from inside and outside the coarse
mask, and the mask itself as logits in SAM's low-resolution frame. An empty mask makes no useful prompt:
the caller skips SAM.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import Method, resample, upsample

SAM_IMAGE_SIDE = 1024
"""Side of SAM's square input: the image's longest side is scaled to it, the rest padded right and bottom."""

SAM_MASK_SIDE = 256
"""Side of SAM's square mask prompt, a quarter of the input's."""

Foreground = NDArray[np.bool_] | NDArray[np.floating[Any]]
"""A mask, or foreground probabilities from 0 to 1."""


def sample_points(
    mask: NDArray[np.bool_], positive: int, negative: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw points uniformly, without replacement, from inside and outside a mask.

    Where a side has fewer pixels than asked for, all of them are returned, in random order, and none
    twice: a repeated point tells SAM nothing new.

    Args:
        mask: [height, width]; non-zero is foreground.
        positive: points wanted on the foreground.
        negative: points wanted on the background.
        rng: the only source of randomness; equal generators give equal points.

    Returns:
        points: float32 [n, 2], XY (column, row) of pixels in the mask's frame, positive ones first. SAM adds
            half a pixel to reach their centres.
        labels: int32 [n], 1 for positive and 0 for negative.

    Raises:
        ValueError: a negative number of points.
    """
    if positive < 0 or negative < 0:
        raise ValueError("a number of points must not be negative")
    foreground = np.asarray(mask, dtype=np.bool_).ravel()
    inside, outside = np.flatnonzero(foreground), np.flatnonzero(~foreground)
    chosen_inside = rng.choice(inside, min(positive, inside.size), replace=False)
    chosen_outside = rng.choice(outside, min(negative, outside.size), replace=False)
    rows, columns = np.divmod(np.concatenate((chosen_inside, chosen_outside)), mask.shape[1])
    labels = np.repeat(np.array([1, 0], dtype=np.int32), (chosen_inside.size, chosen_outside.size))
    return np.stack((columns, rows), axis=1).astype(np.float32), labels


def mask_logits(mask: Foreground, eps: float = 1e-3) -> NDArray[np.float32]:
    """Inverse sigmoid of a mask or of foreground probabilities, float32 of the same shape.

    Args:
        mask: any shape; bool, or probabilities from 0 to 1.
        eps: probabilities are kept this far from 0 and 1, so logits stay within log((1 - eps) / eps), which
            is 6.9 by default; between 0 and 0.5.

    Raises:
        ValueError: eps out of range.
    """
    if not 0 < eps < 0.5:
        raise ValueError("eps must be between 0 and 0.5")
    probability = np.clip(np.asarray(mask, dtype=np.float64), eps, 1 - eps)
    return np.log(probability / (1 - probability)).astype(np.float32)


def mask_prompt_aligned(
    mask: Foreground, image_size: tuple[int, int], eps: float = 1e-3
) -> NDArray[np.float32]:
    """Place a mask in the frame of SAM's mask prompt, padded as SAM pads the image.

    The image's longest side becomes 1024 (as ``ResizeLongestSide`` of segment-anything rounds it), the other
    side is padded to the right or bottom, and the frame is sampled at the centres of its 4 x 4 blocks: the
    nearest cell of a mask, bilinearly between cells for probabilities. A block whose centre is padding is
    background.

    Args:
        mask: [rows, cols], bool or probabilities, covering the whole image: a grid or a full-size mask.
        image_size: (height, width) of the image.
        eps: as for :func:`mask_logits`.

    Returns:
        float32 [1, 256, 256] logits.

    Raises:
        ValueError: a size that is not positive, or eps out of range.
    """
    height, width = image_size
    if height < 1 or width < 1:
        raise ValueError("sizes must be positive")
    rows, cols = (_block_centres(side, max(height, width)) for side in image_size)
    values = resample(mask, rows * mask.shape[0], cols * mask.shape[1], _method(mask))
    frame = np.zeros((1, SAM_MASK_SIDE, SAM_MASK_SIDE), dtype=np.float64)
    frame[0, : rows.size, : cols.size] = values
    return mask_logits(frame, eps)


def _block_centres(side: int, longest: int) -> NDArray[np.float64]:
    """Centres, as shares of a side of the image, of the mask prompt's pixels that lie on the image."""
    block = SAM_IMAGE_SIDE // SAM_MASK_SIDE
    resized = max(1, int(side * (SAM_IMAGE_SIDE / longest) + 0.5))
    centres = block * np.arange(SAM_MASK_SIDE) + block // 2
    # An image too narrow to reach any centre still gets its first row or column.
    return centres[: max(1, np.searchsorted(centres, resized))] / resized


def _method(mask: Foreground) -> Method:
    return "nearest" if mask.dtype == np.bool_ else "bilinear"


def mask_prompt_stretched(mask: Foreground, eps: float = 1e-3) -> NDArray[np.float32]:
    """Stretch a mask to SAM's 256 x 256 prompt, whatever the image's shape.

    The other published variant: it agrees with :func:`mask_prompt_aligned` on square images; on others
    the prompt does not lie over the object, since SAM pads the image and this does not.

    Args:
        mask: [rows, cols], bool or probabilities, covering the whole image.
        eps: as for :func:`mask_logits`.

    Returns:
        float32 [1, 256, 256] logits.
    """
    cells: NDArray[Any] = mask
    return mask_logits(upsample(cells, (SAM_MASK_SIDE, SAM_MASK_SIDE), _method(mask)), eps)[None]
