"""Sharpening with the light refiner of :mod:`text4seg_light`: weights of our own, quick on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from services.refiner.checkpoint_file import check_start, digest_of
from services.refiner.refine import Embedding, SharpMask, upsample_coarse
from text4seg.errors import CheckpointError
from text4seg_light import LightRefiner, ProjectedImage, image_pixels, load

_BATCH: Final = 8
_LEAST_PIECE: Final = 0.02
"""Share of a mask that a piece of it must have where the coarse mask has nothing."""
_STEPS: Final = "steps-2"
"""Changes with anything here that changes an answer; part of the version."""


class LightModel:
    """The light refiner as a mask model. Nothing is drawn: the seed of a request makes no difference.

    Args:
        refiner: in evaluation mode, on its device.
        weights: identifies the weights.
    """

    name = "light"
    batch = _BATCH

    def __init__(self, refiner: LightRefiner, weights: str) -> None:
        self._refiner = refiner
        self._device = refiner.trust.device
        self.version = f"{self.name}-{weights}+{_STEPS}"

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode the image; the content is a :class:`ProjectedImage` on the model's device."""
        height, width, _ = image.shape
        pixels = image_pixels(image, self._refiner.config.side).to(self._device)
        with torch.inference_mode():
            projected = self._refiner.project(self._refiner.encode(pixels))
        return Embedding((height, width), projected, sum(part.nbytes for part in projected))

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Sharpen masks in one pass.

        The score is the network's estimate of its mask's intersection over union. Where the network leaves
        nothing, the answer is the interpolated coarse mask with score 0.
        """
        image: ProjectedImage = embedding.content
        with torch.inference_mode():
            placed = torch.stack([self._refiner.place(cells) for cells in coarse]).to(self._device)
            logits, quality = self._refiner.decode(image, placed)
            return tuple(
                _sharp(logits[row : row + 1], float(quality[row]), cells, embedding.image_size)
                for row, cells in enumerate(coarse)
            )


def _sharp(
    logits: torch.Tensor, quality: float, coarse: NDArray[np.float32], size: tuple[int, int]
) -> SharpMask:
    # One by one: logits in the size of a large image take hundreds of megabytes.
    full = functional.interpolate(logits, size, mode="bilinear", align_corners=False)[0, 0]
    mask: NDArray[np.bool_] = (full > 0).cpu().numpy()
    expected = upsample_coarse(coarse, size)
    if not mask.any():
        return SharpMask(expected, 0.0)
    return SharpMask(without_strays(mask, expected), min(max(quality, 0.0), 1.0))


def without_strays(mask: NDArray[np.bool_], expected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop small pieces of a mask where nothing was expected: a few pixels far away would make a wrong box.

    Args:
        mask: bool [height, width].
        expected: the interpolated coarse mask, bool [height, width].

    Returns:
        The 8-connected pieces that touch what was expected or are not small; all where only such are left.
    """
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(pieces.ravel(), minlength=count)
    kept = areas >= _LEAST_PIECE * mask.sum()
    kept[pieces[expected]] = True
    kept[0] = False
    return kept[pieces] if kept.any() else mask


def load_light(checkpoint: Path, device: str = "cpu") -> LightModel:
    """Load a file that the recipe ``training.refiner`` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or something else, or the device cannot be used.
    """
    check_start(checkpoint, device)
    try:
        refiner = load(checkpoint)
    except ValueError as error:
        raise CheckpointError(str(checkpoint), str(error)) from error
    return LightModel(refiner.to(device), digest_of(checkpoint))
