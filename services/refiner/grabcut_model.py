"""Sharpening with GrabCut (Rother, Kolmogorov and Blake, 2004) from OpenCV: no weights, no download.

The coarse mask, interpolated to the image, says where the outline may run: in a band round its own, 0.4 cells
to each side of a straight edge. Inside the band a pixel goes to the side whose colours it shares, and the cut
follows edges of the image. Wider bands, smoothed masks and a second cut round the first were tried: what they
win on masks with wrong cells they lose on right ones, for colours alone do not tell an object from what lies
around it. Cutting window by window changes nothing. ``benchmarks/refiner.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from services.refiner.refine import Embedding, SharpMask, upsample_coarse
from text4seg.masks import upsample
from text4seg.metrics import iou

_WORKING_SIDE = 512
"""Longest side, in pixels, of the picture that is cut: time grows with its square, gain hardly at all."""
_UNSURE = 0.1
"""Interpolated coarse values below this are sure background, those above 1 minus this sure foreground."""
_ROUNDS = 2
"""Rounds of fitting colours and cutting."""
_LEAST_AGREEMENT = 0.5
"""A cut that agrees less with the coarse mask (IoU) has vanished or flooded: it is dropped."""
_SPECK_CELLS = 0.25
"""Area, in cells, below which an island is removed and a hole is filled."""
_FEWEST_PIXELS = 5
"""Each side needs as many pixels as OpenCV fits Gaussians to its colours."""
_MODEL_VALUES = 65
"""Length of OpenCV's colour models."""
_UNUSED_RECTANGLE = (0, 0, 1, 1)


class GrabCutModel:
    """The default refiner.

    Having no estimate of its own, it scores a mask by its agreement (IoU) with the coarse one, which is
    at least 0.5, and a mask that it could not sharpen by 0.5. Nothing is drawn: the seed of a
    request makes no difference.
    """

    name = "grabcut"
    version = f"grabcut-1+opencv-{cv2.__version__}"
    batch = 1

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Reduce the image to the working size; the content is uint8 CIE L*a*b* [height, width, 3]."""
        height, width, _ = image.shape
        scale = min(1.0, _WORKING_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(cv2.cvtColor(reduced, cv2.COLOR_RGB2LAB), dtype=np.uint8)
        return Embedding((height, width), pixels, pixels.nbytes)

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Cut the objects out; where that cannot work or went wrong, return the interpolated coarse mask."""
        return tuple(_sharpen(embedding, cells) for cells in coarse)


def _sharpen(embedding: Embedding, coarse: NDArray[np.float32]) -> SharpMask:
    pixels: NDArray[np.uint8] = embedding.content
    height, width, _ = pixels.shape
    guess = upsample_coarse(coarse, (height, width))
    cut = _cut(pixels, upsample(coarse, (height, width), "bilinear"), guess)
    if cut is not None:
        cut = _without_specks(cut, _SPECK_CELLS * height * width / coarse.size)
        agreement = iou(cut, guess)
        mask = _enlarge(cut, embedding.image_size)
        if agreement >= _LEAST_AGREEMENT and mask.any():
            return SharpMask(mask, agreement)
    return SharpMask(upsample_coarse(coarse, embedding.image_size), _LEAST_AGREEMENT)


def _cut(
    pixels: NDArray[np.uint8], probability: NDArray[np.float32], guess: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Run GrabCut; None where one side has too little to learn its colours from.

    Args:
        pixels: uint8 [height, width, 3].
        probability: [height, width], the interpolated coarse mask.
        guess: bool [height, width], where an unsure pixel starts.
    """
    if min(np.count_nonzero(guess), np.count_nonzero(~guess)) < _FEWEST_PIXELS:
        return None
    trimap = np.full(guess.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    trimap[guess] = cv2.GC_PR_FGD
    trimap[guess & (probability > 1 - _UNSURE)] = cv2.GC_FGD
    trimap[~guess & (probability < _UNSURE)] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # of this thread: the colour models start from k-means
    background, foreground = np.zeros((1, _MODEL_VALUES)), np.zeros((1, _MODEL_VALUES))
    cv2.grabCut(pixels, trimap, _UNUSED_RECTANGLE, background, foreground, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut: NDArray[np.bool_] = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    return cut


def _without_specks(mask: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    """Remove islands (8-connected), then fill holes (4-connected), of fewer than min_area pixels."""
    cleaned = mask & ~_small_components(mask, min_area, 8)
    return cleaned | _small_components(~cleaned, min_area, 4)


def _small_components(mask: NDArray[np.bool_], min_area: float, connectivity: int) -> NDArray[np.bool_]:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )
    small = statistics[:, cv2.CC_STAT_AREA] < min_area
    small[0] = False  # everything outside the mask
    found: NDArray[np.bool_] = small[labels]
    return found


def _enlarge(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    if mask.shape == size:
        return mask
    enlarged: NDArray[np.bool_] = (
        cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    )
    return enlarged
