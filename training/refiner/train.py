"""The training loop of the light refiner: resumable, and the same whether or not it was interrupted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional

from text4seg_light import Features, LightRefiner, ProjectedImage, save
from training.refiner.coarse import coarse_of
from training.refiner.features import Pool
from training.refiner.losses import WEIGHTS, losses, overlap

STATE = "state.pt"
"""File in the folder of a run that an interrupted run goes on from."""
CHECKPOINT = "model.safetensors"
WARM_UP = 100
"""Steps over which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and in which portions to train.

    Attributes:
        steps: in all; the learning rate falls to nearly zero over them.
        images: views per step.
        masks: coarse masks per view.
        peak_rate: highest learning rate.
        show_every: steps between two lines of progress.
        keep_every: steps between two states that an interrupted run can go on from.
    """

    steps: int = 6000
    images: int = 4
    masks: int = 4
    peak_rate: float = 1e-3
    show_every: int = 50
    keep_every: int = 200


class Batch(NamedTuple):
    """One step's material.

    Attributes:
        features: of the views.
        image_of: int64 [masks], index of each mask's view.
        coarse: float [masks, 1, side / 4, side / 4].
        truth: float [masks, 1, TRUTH_SIDE, TRUTH_SIDE].
    """

    features: Features
    image_of: torch.Tensor
    coarse: torch.Tensor
    truth: torch.Tensor


def train(model: LightRefiner, pool: Pool, out: Path, pace: Pace, seed: int = 0) -> None:
    """Train for some steps and write a checkpoint; go on where an interrupted run stopped.

    Args:
        model: with its pretrained encoder, on the device to train on; everything else of it is changed.
        pool: views with features.
        out: folder of the checkpoint and of the state that an interrupted run goes on from.
        pace: how long and in which portions.
        seed: draws views and coarse masks.
    """
    model.eval()
    model.encoder.requires_grad_(False)
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = _optimizer(list(learned.values()), pace.peak_rate)
    kept, step = out / STATE, 0
    if kept.exists():
        state = torch.load(kept, map_location=model.trust.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        print(f"going on from step {step}", flush=True)
    begun, first, seen, sums = time.monotonic(), step, 0, dict[str, float]()
    while step < pace.steps:
        for group in optimizer.param_groups:
            group["lr"] = pace.peak_rate * schedule(step, pace.steps)
        batch = draw(model, pool, pace, np.random.default_rng([seed, step]))
        parts, ious = learn(model, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack([WEIGHTS[name] * parts[name] for name in WEIGHTS]).sum())
        torch.nn.utils.clip_grad_norm_(list(learned.values()), 1.0)
        optimizer.step()
        step, seen = step + 1, seen + 1
        for name, value in (parts | ious).items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % pace.show_every == 0 or step == pace.steps:
            seconds = (time.monotonic() - begun) / (step - first)
            figures = " ".join(f"{name} {value / seen:.4f}" for name, value in sums.items())
            print(f"step {step} of {pace.steps}, {seconds:.2f} s each: {figures}", flush=True)
            sums, seen = {}, 0
        if step % pace.keep_every == 0 or step == pace.steps:
            partial = kept.with_suffix(".partial")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, partial)
            partial.replace(kept)
    save(model, out / CHECKPOINT)


def draw(model: LightRefiner, pool: Pool, pace: Pace, rng: np.random.Generator) -> Batch:
    """Draw views, true masks and what is left of them in a grid."""
    picks = [int(pick) for pick in rng.integers(len(pool), size=pace.images)]
    coarse: list[torch.Tensor] = []
    truths: list[torch.Tensor] = []
    image_of: list[int] = []
    while not coarse:
        for place, pick in enumerate(picks):
            for number in rng.integers(pool.masks(pick), size=pace.masks):
                truth = pool.mask(pick, int(number))
                left = coarse_of(truth, pool.guess(pick, int(number)), rng)
                if left is not None:
                    coarse.append(model.place(left))
                    truths.append(torch.from_numpy(truth).float()[None])
                    image_of.append(place)
    device = model.trust.device
    return Batch(
        Features(*(part.to(device) for part in pool.features(picks))),
        torch.tensor(image_of, device=device),
        torch.stack(coarse).to(device),
        torch.stack(truths).to(device),
    )


def learn(model: LightRefiner, batch: Batch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the parts of the loss, and the mean intersection over union before and after sharpening."""
    with torch.autocast(batch.coarse.device.type, dtype=torch.bfloat16):
        projected = model.project(batch.features)
        of_each = ProjectedImage(*(part[batch.image_of] for part in projected))
        logits, quality = (part.float() for part in model.decode(of_each, batch.coarse))
    with torch.no_grad():
        size = batch.truth.shape[-2:]
        masks = {"coarse": batch.coarse - 0.5, "sharp": logits}
        ious = {
            f"IoU {name}": overlap(
                functional.interpolate(values, size, mode="bilinear", align_corners=False) > 0,
                batch.truth > 0.5,
            ).mean()
            for name, values in masks.items()
        }
    return losses(logits, quality, batch.truth), ious


def schedule(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: a short warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))


def _optimizer(learned: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return AdamW that lets matrices decay, but neither biases nor norms."""
    return torch.optim.AdamW(
        [
            {"params": [value for value in learned if value.ndim > 1], "weight_decay": 0.01},
            {"params": [value for value in learned if value.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=rate,
    )
