"""A scaling that makes a model's confidence more believable."""

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from text4seg.scores import Calibration


def fit_calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Return the scaling under which what was seen is likeliest."""
    clipped = torch.from_numpy(confidence.clip(1e-6, 1 - 1e-6))
    logits, seen = torch.logit(clipped), torch.from_numpy(right.astype(np.float64))
    inverse, bias = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([inverse.requires_grad_(), bias.requires_grad_()], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(logits * inverse + bias, seen)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Calibration(round(1 / max(inverse.item(), 1e-2), 3), round(bias.item(), 3))
