"""The frozen encoder's features of all views, computed once and kept in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from text4seg_light import Features, LightRefiner, image_pixels
from training.refiner.views import TRUTH_SIDE, View

SHARD = 64
"""Views per file."""

Guesser = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]]
"""What a model takes for the things of some names in an image: a probability for each cell, 0 to 1."""


class Pool:
    """Views with features and true masks, read from files piece by piece.

    Args:
        files: what :func:`prepare` returned.

    Raises:
        ValueError: no view has anything to find.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._parts = [torch.load(file, mmap=True, weights_only=True) for file in files]
        self._at = [
            (part, row)
            for part in self._parts
            for row in range(len(part["begin"]) - 1)
            if part["begin"][row] < part["begin"][row + 1]
        ]
        if not self._at:
            raise ValueError("no photograph shows anything large enough to learn from")

    def __len__(self) -> int:
        return len(self._at)

    def features(self, picks: Sequence[int]) -> Features:
        """Return the encoder's maps of some views in single precision, stacked."""
        chosen = [self._at[pick] for pick in picks]
        return Features(
            *(torch.stack([part[name][row] for part, row in chosen]).float() for name in Features._fields)
        )

    def masks(self, pick: int) -> int:
        """Return how many true masks a view has; at least one."""
        part, row = self._at[pick]
        return int(part["begin"][row + 1] - part["begin"][row])

    def mask(self, pick: int, number: int) -> NDArray[np.bool_]:
        """Return a true mask of a view, bool [TRUTH_SIDE, TRUTH_SIDE]."""
        part, row = self._at[pick]
        bits = part["masks"][int(part["begin"][row]) + number].numpy()
        return np.unpackbits(bits).reshape(TRUTH_SIDE, TRUTH_SIDE).astype(np.bool_)

    def guess(self, pick: int, number: int) -> NDArray[np.bool_] | None:
        """Return what a model took for a true mask, bool [rows, cols]; None where none was asked."""
        part, row = self._at[pick]
        guesses = part["guesses"][row]
        return None if guesses is None else guesses[number].numpy()


def prepare(
    model: LightRefiner, draw: Callable[[int], View], count: int, folder: Path, guesser: Guesser | None = None
) -> list[Path]:
    """Compute the features of every view that is not there yet.

    Args:
        model: with its pretrained encoder, in evaluation mode.
        draw: returns a view by its number; the same number gives the same view.
        count: of views.
        folder: where the files go.
        guesser: is asked for the things of a view that have names.

    Returns:
        The files.
    """
    files = []
    for begin in tqdm(range(0, count, SHARD), desc="features", unit="file"):
        file = folder / f"features-{begin // SHARD:03d}.pt"
        files.append(file)
        if file.exists():
            continue
        views = [draw(number) for number in range(begin, min(begin + SHARD, count))]
        partial = file.with_suffix(".partial")
        torch.save(_packed(model, views, guesser), partial)
        partial.replace(file)
    return files


@torch.inference_mode()
def _packed(model: LightRefiner, views: Sequence[View], guesser: Guesser | None) -> dict[str, Any]:
    """Return maps in half precision, masks as bits, where the masks of each view begin, and guesses."""
    device = model.trust.device
    maps = [model.encode(image_pixels(view.image, model.config.side).to(device)) for view in views]
    bits = [np.packbits(mask) for view in views for mask in view.masks]
    stacked = np.stack(bits) if bits else np.zeros((0, TRUTH_SIDE * TRUTH_SIDE // 8), np.uint8)
    counts = [len(view.masks) for view in views]
    return {
        **{name: torch.cat([getattr(one, name).half().cpu() for one in maps]) for name in Features._fields},
        "masks": torch.from_numpy(stacked),
        "begin": torch.tensor([0, *np.cumsum(counts)]),
        "guesses": [
            torch.from_numpy(guesser(view.image, view.names) >= 0.5) if guesser and view.names else None
            for view in views
        ],
    }
