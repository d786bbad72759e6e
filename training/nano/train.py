"""The training loop of the nano model: bounded by time, resumable."""

import math
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from training.nano.batch import Collator
from training.nano.losses import LOSS_WEIGHTS, losses
from training.nano.pool import Pool
from training.nano.questions import GRID, questions_of
from training.nano.start import new_model, phrase_tokens

SHOW_EVERY, KEEP_EVERY = 50, 200
"""Steps between two lines of progress, and between two checkpoints."""


def train(
    parts: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    nouns: Sequence[str],
    sprite_nouns: Sequence[str],
    captions: Mapping[int, Sequence[str]],
    out: Path,
    *,
    minutes: float,
    images: int = 4,
    questions: int = 3,
    extra: int = 8,
    peak_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Train for some minutes and write a checkpoint; go on where an interrupted run stopped.

    Args:
        parts: What `pool.make_pool` returned, any number of times.
        tokenizer: From `tokenizer.build_tokenizer`.
        nouns: All names, in a fixed order.
        sprite_nouns: The names of sprites among them.
        captions: Captions by id of the photograph.
        out: Directory of the checkpoint; ``state.pt`` in it is what an interrupted run goes on from.
        minutes: Time to train in all; the learning rate falls to nearly zero over it.
        images: Images per step that questions are asked about.
        questions: Questions per image.
        extra: Further images per step that only teach the names of cells.
        peak_rate: Highest learning rate.
        seed: Draws weights, images and questions.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    pool = Pool(parts, [OTHERS, *nouns])
    model = new_model(tokenizer)
    model.connector.mean, model.connector.deviation = pool.statistics()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameter for parameter in learned if parameter.ndim > 1], "weight_decay": 0.05},
            {"params": [parameter for parameter in learned if parameter.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=peak_rate,
        betas=(0.9, 0.98),
    )
    out.mkdir(parents=True, exist_ok=True)
    kept, step, before = out / "state.pt", 0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        before, step = state["seconds"], state["step"]
        rng.seed(f"{seed} {step}")
        print(f"going on from step {step} after {before / 60:.1f} minutes", flush=True)

    def keep(seconds: float) -> None:
        partial = kept.with_suffix(".partial")
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seconds": seconds,
            "step": step,
        }
        torch.save(state, partial)
        partial.replace(kept)

    collate = Collator(tokenizer, model)
    noun_tokens = padded(phrase_tokens(tokenizer, [OTHERS, *nouns]))
    model.train()
    model.tower.eval()
    begun, sums, seen = time.monotonic(), dict[str, float](), 0
    while (seconds := before + time.monotonic() - begun) < minutes * 60:
        rate = peak_rate * schedule(step, seconds / (minutes * 60))
        for group in optimizer.param_groups:
            group["lr"] = rate
        picks = [rng.randrange(len(pool.meta)) for _ in range(images + extra)]
        asked = []
        for pick in picks[:images]:
            names, shares, complete, source = pool.meta[pick]
            told = captions.get(source, ())
            asked.append(
                questions_of(
                    names, shares, complete=complete, captions=told, nouns=nouns,
                    sprite_nouns=sprite_nouns, count=questions, rng=rng,
                )
            )  # fmt: skip
        labels = torch.stack([pool.labels(pick) for pick in picks])
        features = pool.middle[picks].float(), pool.head[picks].float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            learned_from = losses(model, collate(asked), *features, labels, noun_tokens, extra)
        total = torch.stack(
            [weight * learned_from[name] for name, weight in LOSS_WEIGHTS.items() if name in learned_from]
        )
        optimizer.zero_grad(set_to_none=True)
        total.sum().backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + 1
        for name, value in learned_from.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if seen == SHOW_EVERY:
            overlap = sums.pop("I") / max(sums.pop("U"), 1.0)
            shown = " ".join(f"{name} {value / seen:.3f}" for name, value in sums.items())
            print(
                f"{seconds / 60:6.1f} of {minutes:.0f} min, step {step}: cell cIoU {overlap:.3f} {shown}",
                flush=True,
            )
            sums, seen = {}, 0
        if step % KEEP_EVERY == 0:
            keep(seconds)
    keep(seconds)
    save(model, tokenizer, out)


def schedule(step: int, progress: float) -> float:
    """Return the share of the peak learning rate: a short warm-up, then half a cosine over the time."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(progress, 1.0))))


def padded(lists: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return token lists as int64 [lists, longest], filled up with -1."""
    table = torch.full((len(lists), max(map(len, lists))), -1)
    for row, tokens in enumerate(lists):
        table[row, : len(tokens)] = torch.tensor(tokens)
    return table


def save(model: Text4SegNanoForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a checkpoint directory in bfloat16 that `AutoModelForImageTextToText` loads."""
    model.config.text4seg = {
        "model": "text4seg-nano",
        "grid": [GRID, GRID],
        "codec": "r-rle",
        "template_version": dialogue.TEMPLATE_VERSION,
        "image_size": [model.config.image_size, model.config.image_size],
        "calibration": {"temperature": 1.0, "bias": 0.0},
    }
    model.to(torch.bfloat16).save_pretrained(out)
    Text4SegNanoProcessor(
        tokenizer, image_size=model.config.image_size, image_tokens=GRID * GRID
    ).save_pretrained(out)
