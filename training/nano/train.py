"""The training loop of the nano model: bounded by time, resumable."""

import math
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from training.nano.batch import Collator, padded
from training.nano.losses import losses, weighted
from training.nano.pool import Pool
from training.nano.questions import Example, caption, questions_of
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
        naming_share: That of the tower's upper half and the connector while questions are asked, as a share
            of `peak_rate`; 0: they stay as naming has left them.
        written: Share of the steps whose answers are written out. In the others descriptors are only begun,
            which teaches what the cells show in half the time.
        captions: Further images per step that are asked for a caption, if there are any with captions.
        show_every: Steps between two lines of progress.
        keep_every: Steps between two states that an interrupted run can go on from.
    """

    minutes: float = 90.0
    steps: int = 0
    naming: float = 30.0
    images: int = 4
    questions: int = 3
    peak_rate: float = 4e-4
    naming_share: float = 0.0
    written: float = 1.0
    captions: int = 0
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
    naming = [*model.tower.upper_parameters(), *model.connector.projection_parameters()]
    # They have learned names from many more scenes than come by here, and at full rate would unlearn them.
    model.connector.requires_grad_(False)
    for parameter in naming:
        parameter.requires_grad_(pace.naming_share > 0)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_for(learned, pace.peak_rate, naming, pace.naming_share)
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
    with_caption = [number for number, item in enumerate(pool.meta) if item[3] in subjects.captions]
    nouns = padded(phrase_tokens(tokenizer, [OTHERS, *subjects.nouns])).to(model.device)
    model.train()
    model.tower.eval()
    begun, sums, seen = clock(), dict[str, tuple[float, int]](), 0
    while (done := pace.progress(step, seconds := before + clock() - begun)) < 1:
        rate = pace.peak_rate * schedule(step, done)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        picks = [rng.randrange(len(pool)) for _ in range(pace.images)]
        written = rng.random() < pace.written
        asked = [draw_questions(pool, pick, subjects, pace.questions, rng) for pick in picks]
        for pick in rng.choices(with_caption, k=pace.captions if with_caption else 0):
            text = rng.choice(list(subjects.captions[pool.meta[pick][3]]))
            picks, asked = [*picks, pick], [*asked, [caption(text, rng, model.config.grid)]]
        labels = torch.stack([pool.labels(pick) for pick in picks]).to(model.device)
        features = pool.features(picks).to(model.device).float()
        with torch.autocast(model.device.type, dtype=torch.bfloat16), warnings.catch_warnings():
            # The image layers normalise bfloat16 states with float32 weights, on purpose.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            batch = collate(asked, written=written).to(model.device)
            learned_from = losses(model, batch, features, labels, nouns)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(weighted(learned_from))
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + 1
        for name, value in learned_from.items():
            before_it, times = sums.get(name, (0.0, 0))
            sums[name] = before_it + float(value.detach()), times + 1
        if seen == pace.show_every:
            print(f"{seconds / 60:6.1f} of {pace.minutes:.0f} min, {progress(step, sums)}", flush=True)
            sums, seen = {}, 0
        if step % pace.keep_every == 0:
            keep(seconds)
    keep(seconds)
    save(model, tokenizer, out)


def optimizer_for(
    learned: Sequence[torch.nn.Parameter],
    rate: float,
    naming: Sequence[torch.nn.Parameter] = (),
    naming_share: float = 0.0,
) -> torch.optim.Optimizer:
    """Return AdamW that lets matrices decay, but neither biases nor norms.

    The rate of a group of parameters is that of all times its "factor": `naming_share` for those of `naming`.
    """
    named = {id(parameter) for parameter in naming}
    groups: list[dict[str, Any]] = []
    for factor, own in ((1.0, False), (naming_share, True)):
        part = [parameter for parameter in learned if (id(parameter) in named) == own]
        for decay, matrices in ((0.05, True), (0.0, False)):
            chosen = [parameter for parameter in part if (parameter.ndim > 1) == matrices]
            group = {"params": chosen, "lr": rate * factor, "factor": factor, "weight_decay": decay}
            groups += [group] if chosen else []
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


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


def progress(step: int, sums: Mapping[str, tuple[float, int]]) -> str:
    """Return a line about the last steps: mean losses, and cIoU of the cells of referring answers.

    Args:
        step: Number of steps so far.
        sums: Sum of each value, and in how many steps there was one.
    """
    overlap = sums["I"][0] / max(sums["U"][0], 1.0)
    means = {name: total / times for name, (total, times) in sums.items() if name not in ("I", "U")}
    return f"step {step}: cell cIoU {overlap:.3f} " + " ".join(
        f"{name} {mean:.3f}" for name, mean in means.items()
    )


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
