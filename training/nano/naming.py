"""The first stage: the upper half of the tower and the connector learn to name cells, before any question.

Nearly all that a question needs is in the names, and without the language model a step costs a fraction.
"""

import random
import time
from collections.abc import Callable

import torch
import torch.nn.functional as functional

from text4seg_nano import Text4SegNanoForConditionalGeneration
from training.nano.pool import UNKNOWN, Pool
from training.nano.train import Pace, schedule

PER_AREA = 12
"""A name weighs as much in a scene as five cells, and one cell more for so many cells of that name."""
SCENES = 24
RATE, CONNECTOR_FACTOR = 4e-4, 2.0
"""Highest learning rate of the tower, and how much higher that of the connector is."""
SHOW_EVERY = 50


def teach_names(
    model: Text4SegNanoForConditionalGeneration,
    pool: Pool,
    classes: torch.Tensor,
    minutes: float,
    *,
    steps: int = 0,
    scenes: int = SCENES,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train the upper stages of the tower and the connector's projection for some minutes.

    The statistics of batch normalisation stay those of ImageNet, and the word embeddings as they are.

    Args:
        model: On the device to train on.
        pool: Scenes.
        classes: Mean word embedding of every name, float [names, hidden].
        minutes: Time to train; the learning rate falls to nearly zero over it.
        steps: Train for so many steps instead, however long they take; 0: as long as `minutes`.
        scenes: Scenes per step.
        seed: Draws scenes.
        clock: Monotonic, in seconds.
    """
    tower = model.tower.upper_parameters()
    connector = model.connector.projection_parameters()
    learned = [*tower, *connector]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [one for one in tower if one.ndim > 1], "factor": 1.0, "weight_decay": 0.02},
            {"params": [one for one in tower if one.ndim <= 1], "factor": 1.0, "weight_decay": 0.0},
            {"params": connector, "factor": CONNECTOR_FACTOR, "weight_decay": 0.05},
        ],
        betas=(0.9, 0.98),
    )
    model.tower.eval()
    model.connector.train()
    rng = random.Random(seed)
    pace = Pace(minutes=minutes, steps=steps)
    begun, step, total = clock(), 0, 0.0
    while (done := pace.progress(step, seconds := clock() - begun)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["factor"] * schedule(step, done)
        picks = [rng.randrange(len(pool)) for _ in range(scenes)]
        middle = pool.features(picks).to(model.device).float()
        labels = torch.stack([pool.labels(pick) for pick in picks]).to(model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = model.name_cells(middle) @ classes.T
        known = labels != UNKNOWN
        each = functional.cross_entropy(
            logits[known].float(), labels[known], label_smoothing=0.05, reduction="none"
        )
        weights = weights_of(labels)[known]
        loss = (each * weights).sum() / weights.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, total = step + 1, total + float(loss.detach())
        if step % SHOW_EVERY == 0:
            shown = f"{seconds / 60:6.1f} of {minutes:.0f} min, step {step}"
            print(f"{shown}: naming {total / SHOW_EVERY:.3f}", flush=True)
            total = 0.0
    model.tower.requires_grad_(False)


def weights_of(labels: torch.Tensor) -> torch.Tensor:
    """Return how much each cell counts, float [scenes, cells]: large things more, but not by their area.

    Args:
        labels: int64 [scenes, cells], -100: unknown.
    """
    weights = torch.zeros(labels.shape, device=labels.device)
    for scene, row in enumerate(labels):
        _, group, sizes = row.unique(return_inverse=True, return_counts=True)
        weights[scene] = ((5 + sizes / PER_AREA) / sizes)[group]
    return weights.masked_fill(labels == UNKNOWN, 0.0)
