"""What the light refiner learns from a batch: dice and focal loss of the mask, and the mask's quality."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

WEIGHTS = {"dice": 1.0, "focal": 20.0, "quality": 1.0}
"""As SAM was trained."""
GAMMA = 2.0
"""Focal loss: how little right pixels count (Lin et al. 2017)."""


def losses(logits: torch.Tensor, quality: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parts of the loss, those of `WEIGHTS`.

    Args:
        logits: float [masks, 1, side, side].
        quality: float [masks], the network's estimate of the intersection over union.
        truth: float [masks, 1, larger side, larger side], 0 or 1.
    """
    larger = functional.interpolate(logits, truth.shape[-2:], mode="bilinear", align_corners=False)
    shares = larger.sigmoid()
    both, either = (shares * truth).sum((1, 2, 3)), (shares + truth).sum((1, 2, 3))
    wrong = functional.binary_cross_entropy_with_logits(larger, truth, reduction="none")
    missed = 1 - (shares * truth + (1 - shares) * (1 - truth))
    return {
        "dice": (1 - (2 * both + 1) / (either + 1)).mean(),
        "focal": (missed**GAMMA * wrong).mean(),
        "quality": functional.mse_loss(quality, overlap(larger > 0, truth > 0.5)),
    }


def overlap(masks: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return intersection over union, float [masks], of bool [masks, 1, height, width]; two empty ones: 1."""
    both, either = (masks & truth).sum((1, 2, 3)), (masks | truth).sum((1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
