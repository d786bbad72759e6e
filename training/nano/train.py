"""The training loop of the nano model: bounded by time, resumable."""

import math
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from training.nano.batch import Collator, padded
from training.nano.losses import LOSS_WEIGHTS, losses
from training.nano.pool import Pool
from training.nano.questions import Example, questions_of
from training.nano.start import phrase_tokens

STATE = "state.pt"
"""File in the folder of a run that an interrupted run goes on from."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """What questions can be about.

    Attributes:
        nouns: All names, in a fixed order.
        sprite_nouns: Names among them that only sprites have, never anything in a photograph.
        captions: Captions by id of the photograph.
    """

    nouns: Sequence[str]
    sprite_nouns: Sequence[str]
    captions: Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and in which portions to train.

    Attributes:
        minutes: Time to train with questions; the learning rate falls to nearly zero over it.
        steps: Train for so many steps instead, however long they take; 0: as long as `minutes`.
        naming: Minutes before that in which the tower's upper half and the connector learn names.
        images: Images per step.
        questions: Questions per image.
        peak_rate: Highest learning rate.
        show_every: Steps between two lines of progress.
        keep_every: Steps between two states that an interrupted run can go on from.
    """

    minutes: float = 90.0
    steps: int = 0
    naming: float = 30.0
    images: int = 4
    questions: int = 3
    peak_rate: float = 4e-4
    show_every: int = 50
    keep_every: int = 200

    def progress(self, step: int, seconds: float) -> float:
        """Return the share of the training that is done; 1 or more: it is over."""
        return step / self.steps if self.steps else seconds / 60 / self.minutes if self.minutes else 1.0


def train(
    model: Text4SegNanoForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: Pool,
    subjects: Subjects,
    out: Path,
    pace: Pace,
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train for some minutes and write a checkpoint; go on where an interrupted run stopped.

    Args:
        model: From `start.new_model`, on the device to train on; it is changed.
        tokenizer: From `tokenizer.build_tokenizer`.
        pool: Scenes with tower features.
        subjects: What to ask about.
        out: Folder of the checkpoint and of the state that an interrupted run goes on from.
        pace: How long and in which portions.
        seed: Draws images and questions.
        clock: Monotonic, in seconds.
    """
    rng = random.Random(seed)
    # Like the tower, it has learned names from many more scenes than come by here, and would unlearn them.
    model.connector.requires_grad_(False)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_for(learned, pace.peak_rate)
    out.mkdir(parents=True, exist_ok=True)
    kept, step, before = out / STATE, 0, 0.0
    if kept.exists():
        state = torch.load(kept, map_location=model.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        before, step = state["seconds"], state["step"]
        rng.seed(f"{seed} {step}")
        print(f"going on from step {step} after {before / 60:.1f} minutes", flush=True)

    def keep(seconds: float) -> None:
        partial = kept.with_suffix(".partial")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state | {"seconds": seconds, "step": step}, partial)
        partial.replace(kept)

    collate = Collator(tokenizer, model.config)
    nouns = padded(phrase_tokens(tokenizer, [OTHERS, *subjects.nouns])).to(model.device)
    model.train()
    model.tower.eval()
    begun, sums, seen = clock(), dict[str, float](), 0
    while (done := pace.progress(step, seconds := before + clock() - begun)) < 1:
        rate = pace.peak_rate * schedule(step, done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        picks = [rng.randrange(len(pool)) for _ in range(pace.images)]
        asked = [draw_questions(pool, pick, subjects, pace.questions, rng) for pick in picks]
        labels = torch.stack([pool.labels(pick) for pick in picks]).to(model.device)
        features = pool.features(picks).to(model.device).float()
        with torch.autocast(model.device.type, dtype=torch.bfloat16), warnings.catch_warnings():
            # The image layers normalise bfloat16 states with float32 weights, on purpose.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            batch = collate(asked).to(model.device)
            learned_from = losses(model, batch, features, labels, nouns)
        total = torch.stack(
            [weight * learned_from[name] for name, weight in LOSS_WEIGHTS.items() if name in learned_from]
        ).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + 1
        for name, value in learned_from.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if seen == pace.show_every:
            print(f"{seconds / 60:6.1f} of {pace.minutes:.0f} min, {progress(step, sums, seen)}", flush=True)
            sums, seen = {}, 0
        if step % pace.keep_every == 0:
            keep(seconds)
    keep(seconds)
    save(model, tokenizer, out)


def optimizer_for(learned: Sequence[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return AdamW that lets matrices decay, but neither biases nor norms."""
    return torch.optim.AdamW(
        [
            {"params": [parameter for parameter in learned if parameter.ndim > 1], "weight_decay": 0.05},
            {"params": [parameter for parameter in learned if parameter.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )


def draw_questions(
    pool: Pool, pick: int, subjects: Subjects, count: int, rng: random.Random
) -> list[Example]:
    """Draw questions about one scene of the pool."""
    names, shares, complete, source, colours = pool.meta[pick]
    return questions_of(
        names,
        shares,
        colours,
        complete=complete,
        captions=subjects.captions.get(source, ()),
        nouns=subjects.nouns,
        sprite_nouns=subjects.sprite_nouns,
        count=count,
        rng=rng,
    )


def schedule(step: int, progress: float) -> float:
    """Return the share of the peak learning rate: a short warm-up, then half a cosine over the time."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(progress, 1.0))))


def progress(step: int, sums: Mapping[str, float], seen: int) -> str:
    """Return a line about the last `seen` steps: mean losses, and cIoU of the cells of referring answers."""
    overlap = sums["I"] / max(sums["U"], 1.0)
    shown = " ".join(f"{name} {value / seen:.3f}" for name, value in sums.items() if name not in ("I", "U"))
    return f"step {step}: cell cIoU {overlap:.3f} {shown}"


def save(model: Text4SegNanoForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a checkpoint folder that `AutoModelForImageTextToText` loads.

    Matrices are stored in half precision, which halves the file; in memory all is float32.
    """
    side, grid = model.config.image_size, model.config.grid
    model.config.text4seg = {
        "model": "text4seg-nano",
        "grid": [grid, grid],
        "codec": model.config.codec,
        "template_version": dialogue.TEMPLATE_VERSION,
        "image_size": [side, side],
        "calibration": {"temperature": 1.0, "bias": 0.0},
    }
    weights = {
        name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in model.state_dict().items()
    }
    del weights["lm_head.weight"]  # tied to the word embeddings
    model.save_pretrained(out, state_dict=weights)
    Text4SegNanoProcessor(tokenizer, image_size=side, image_tokens=grid * grid).save_pretrained(out)
