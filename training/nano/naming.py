"""The first stage: the connector learns to name single cells, before any question is asked.

Nearly all that a question needs is in the names. A few dozen cells of a scene tell as much about them as all
256, and without the language model a step costs a hundredth: minutes here replace hours of the second stage.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from tqdm import tqdm

from text4seg_nano import Text4SegNanoForConditionalGeneration
from training.nano.pool import UNKNOWN, Pool

PER_NAME, PER_AREA = 5, 12
"""Cells drawn for each name in a scene: so many, and one more for so many cells of that name."""
BATCH, RATE = 768, 1.5e-3
SCENES = 32
"""Scenes whose features are read at once."""
SHOW_EVERY = 250


@dataclass(frozen=True, slots=True)
class Cells:
    """Single cells of many scenes.

    Attributes:
        features: Of the tower, float16 [cells, channels].
        words: Expected embedding of the tower's class names, float16 [cells, hidden].
        labels: int64 [cells]: index of the name.
    """

    features: torch.Tensor
    words: torch.Tensor
    labels: torch.Tensor


@torch.inference_mode()
def draw_cells(model: Text4SegNanoForConditionalGeneration, pool: Pool, rng: np.random.Generator) -> Cells:
    """Draw some cells of every name, "others" too, from every scene."""
    connector, classifier = model.connector, model.tower.network.classifier
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for first in tqdm(range(0, len(pool), SCENES), desc="cells", unit="batch"):
        picks = range(first, min(first + SCENES, len(pool)))
        middle, head = (part.to(model.device).float() for part in pool.features(picks))
        features = connector.features(middle, head)
        words = connector.expected_words(classifier(head.permute(0, 2, 3, 1)))
        for scene, pick in enumerate(picks):
            labels = pool.labels(pick).numpy()
            for label in np.unique(labels[labels != UNKNOWN]):
                places = np.flatnonzero(labels == label)
                drawn = torch.from_numpy(rng.permutation(places)[: PER_NAME + len(places) // PER_AREA])
                parts.append(
                    (
                        features[scene, drawn].half().cpu(),
                        words[scene, drawn].half().cpu(),
                        torch.full((len(drawn),), int(label)),
                    )
                )
    columns = zip(*parts, strict=True)
    return Cells(*(torch.cat(column) for column in columns))


def teach_names(
    model: Text4SegNanoForConditionalGeneration,
    cells: Cells,
    classes: torch.Tensor,
    minutes: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train the connector's projection for some minutes; the word embeddings stay as they are.

    Args:
        model: On the device to train on; its connector is changed.
        cells: From `draw_cells`.
        classes: Mean word embedding of every name, float [names, hidden].
        minutes: Time to train; the learning rate falls to zero over it.
        clock: Monotonic, in seconds.
    """
    connector = model.connector
    learned = [*connector.up.parameters(), *connector.down.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.05, betas=(0.9, 0.98))
    connector.train()
    begun, step, total = clock(), 0, 0.0
    while (seconds := clock() - begun) < minutes * 60:
        share = seconds / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - share)
        drawn = torch.randint(0, len(cells.labels), (BATCH,))
        features, words, labels = (
            part[drawn].to(model.device) for part in (cells.features, cells.words, cells.labels)
        )
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = (connector.project(features.float()) + words.float()) @ classes.T
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, total = step + 1, total + float(loss.detach())
        if step % SHOW_EVERY == 0:
            print(
                f"{seconds / 60:6.1f} of {minutes:.0f} min, step {step}: naming {total / SHOW_EVERY:.3f}",
                flush=True,
            )
            total = 0.0
