"""Coarse masks made from true ones, with the mistakes that a language model makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from text4seg.masks import coverage, upsample
from text4seg.metrics import iou

SHAPES = ((16, 16),) * 2 + ((24, 24),) * 2 + ((32, 32),)
"""Grids that are drawn from: mostly the usual ones of referring expressions."""
GUESSED = 0.75
"""How often a model's guess is taken, where there is one."""
LEAST_RIGHT = 0.3
"""Intersection over union of a guess and the truth; below it the guess is of another thing."""
MOST_FLIPPED = 0.25
"""Largest share of border cells that are turned over."""
SHIFTED = 0.1
"""Share of coarse masks that lie one cell beside the object."""
SHARES = 0.15
"""Share of inputs that are not masks but the share of each cell that is covered."""


def turn_over(grid: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Flip each cell that has a different cell among its eight neighbours, with probability ``share``."""
    padded = np.pad(grid, 1, mode="edge")
    rows, cols = grid.shape
    around = [padded[row : row + rows, col : col + cols] for row in range(3) for col in range(3)]
    border = np.any(around, axis=0) & ~np.all(around, axis=0)
    flipped: NDArray[np.bool_] = grid ^ (border & (rng.random(grid.shape) < share))
    return flipped


def coarse_of(
    truth: NDArray[np.bool_], guess: NDArray[np.bool_] | None, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Return a model's guess, or else a spoiled true mask.

    Args:
        truth: bool [height, width] over the whole image.
        guess: bool [rows, cols]; None: there is none.
        rng: draws between the two, and the mistakes.

    Returns:
        float32 [rows, cols], 0 to 1; None where no cell of at least 0.5 is left.
    """
    if (
        guess is not None
        and rng.random() < GUESSED
        and iou(upsample(guess, (truth.shape[0], truth.shape[1])), truth) >= LEAST_RIGHT
    ):
        return guess.astype(np.float32)
    return spoiled(truth, rng)


def spoiled(truth: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32] | None:
    """Shrink a true mask to a grid and make mistakes in it.

    Args:
        truth: bool [height, width] over the whole image.
        rng: draws the grid's shape and the mistakes.

    Returns:
        float32 [rows, cols], 0 to 1; None where no cell of at least 0.5 is left.
    """
    covered = coverage(truth, SHAPES[rng.integers(len(SHAPES))])
    if rng.random() < SHARES:
        coarse = covered.astype(np.float32)
    else:
        grid = covered >= 0.5
        if rng.random() < SHIFTED:
            grid = _shifted(grid, int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
        coarse = turn_over(grid, rng.uniform(0, MOST_FLIPPED), rng).astype(np.float32)
    return coarse if (coarse >= 0.5).any() else None


def _shifted(grid: NDArray[np.bool_], down: int, across: int) -> NDArray[np.bool_]:
    rows, cols = grid.shape
    padded = np.pad(grid, 1, mode="edge")
    return padded[1 - down : 1 - down + rows, 1 - across : 1 - across + cols]
