"""Train the nano model on a pool of scenes.

Run: ``python -m training.nano.train --pool FILE... --photos DIR --sprites DIR --out DIR --minutes 60``.
It can be stopped and run again: it goes on from the newest checkpoint in ``--out``.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from text4seg_nano.modeling import rotary_tables
from text4seg_nano.positions import grid_positions
from training.nano.photos import held_out, load_captions
from training.nano.pool import split_sprites
from training.nano.questions import Example, questions_of
from training.nano.sprites import load_sprites
from training.nano.start import new_model, phrase_tokens
from training.nano.tokenizer import ASSISTANT, END, IMAGE, USER, build_tokenizer, known_words

GRID = 16


@dataclass(slots=True)
class Batch:
    """Sequences of several questions about several images.

    Attributes:
        input_ids: int64 [questions, length], right-padded.
        kept: bool [questions, length], false on padding.
        weights: float [questions, length - 1]: weight of predicting the next token.
        rivals: int64 [questions, length - 1, 2]: where a row begins in a referring answer, the two tokens that may come;
            -1 elsewhere.
        room: int64 [questions, length - 1]: at a run length, the largest that fits; 0 elsewhere.
        image_of: int64 [questions]: which image.
        candidates: float-index lists of label tokens per question, "others" first.
        cells: int64 [questions, 256]: true label of each cell, an index into the candidates; -100: unknown.
    """

    input_ids: torch.Tensor
    kept: torch.Tensor
    weights: torch.Tensor
    rivals: torch.Tensor
    room: torch.Tensor
    image_of: torch.Tensor
    candidates: list[list[list[int]]]
    cells: torch.Tensor


class Collator:
    """Turns examples into token sequences."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: Text4SegNanoForConditionalGeneration) -> None:
        self.tokenizer, self.config = tokenizer, model.config
        self.others = phrase_tokens(tokenizer, [OTHERS])[0]
        self.counts = {token: number for number, token in enumerate(model.config.count_token_ids, 1)}
        self.starts = {model.config.seg_open_token_id, model.config.row_token_id}

    def __call__(self, groups: Sequence[Sequence[Example]]) -> Batch:
        """Return one batch; group i belongs to image i."""
        examples = [(number, example) for number, group in enumerate(groups) for example in group]
        rows = [self._row(example) for _, example in examples]
        length = max(len(row[0]) for row in rows)
        count = len(rows)
        ids = torch.full((count, length), self.config.pad_token_id)
        kept = torch.zeros((count, length), dtype=torch.bool)
        weights = torch.zeros((count, length - 1))
        rivals = torch.full((count, length - 1, 2), -1)
        room = torch.zeros((count, length - 1), dtype=torch.long)
        for number, (tokens, weight, rival, space) in enumerate(rows):
            ids[number, : len(tokens)] = torch.tensor(tokens)
            kept[number, : len(tokens)] = True
            weights[number, : len(weight)] = torch.tensor(weight)
            for place, pair in rival.items():
                rivals[number, place] = torch.tensor(pair)
            for place, most in space.items():
                room[number, place] = most
        cells = torch.from_numpy(np.stack([example.cells.reshape(-1) for _, example in examples]).astype(np.int64))
        for number, (_, example) in enumerate(examples):
            if not example.labels:
                cells[number] = -100
        candidates = [[self.others, *phrase_tokens(self.tokenizer, example.labels)] if example.labels else [self.others] for _, example in examples]
        image_of = torch.tensor([number for number, _ in examples])
        return Batch(ids, kept, weights, rivals, room, image_of, candidates, cells)

    def _row(self, example: Example) -> tuple[list[int], list[float], dict[int, tuple[int, int]], dict[int, int]]:
        prompt = f"{USER}{IMAGE * (GRID * GRID)}{example.question}{ASSISTANT}"
        body = f"{example.sentence}\n<seg>{example.block}</seg>" if example.block else example.sentence
        prompt_ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        answer_ids = self.tokenizer(body + END, add_special_tokens=False).input_ids
        tokens = [*prompt_ids, *answer_ids]
        weights = [0.0] * (len(tokens) - 1)
        rivals: dict[int, tuple[int, int]] = {}
        room: dict[int, int] = {}
        inside, column = False, 0
        first = phrase_tokens(self.tokenizer, example.labels)[0][0] if example.referring else -1
        for place in range(len(prompt_ids) - 1, len(tokens) - 1):
            before, token = tokens[place], tokens[place + 1]
            weights[place] = 0.5 if inside or not example.block else 0.1
            if before in self.starts:
                inside, column = True, 0
                if example.referring:
                    rivals[place] = (self.others[0], first)
            if inside and token in self.counts:
                room[place] = GRID - column
                column += self.counts[token]
            if token == self.config.seg_close_token_id:
                inside = False
        return tokens, weights, rivals, room


def losses(
    model: Text4SegNanoForConditionalGeneration,
    batch: Batch,
    middle: torch.Tensor,
    head: torch.Tensor,
    labels: torch.Tensor,
    nouns: torch.Tensor,
    extra: int,
) -> dict[str, torch.Tensor]:
    """Return the parts of the loss and how often each kind of decision was right.

    Args:
        model: The model in training mode.
        batch: Token sequences.
        middle: Tower features of the images, float [images, channels, 16, 16].
        head: Tower features of the images, float [images, channels, 8, 8].
        labels: int64 [images, 256]: index into `nouns` of what each cell shows, -100: unknown.
        extra: Number of images at the end that nothing is asked about; they only teach the connector names.
        nouns: int64 [nouns, 4]: tokens of each noun, -1 padded; "others" first.
    """
    config = model.config
    table = model.embed_tokens.weight
    parts: dict[str, torch.Tensor] = {}

    def mean_embedding(tokens: torch.Tensor) -> torch.Tensor:
        real = (tokens >= 0).float()[..., None]
        return (table[tokens.clamp(min=0)] * real).sum(-2) / real.sum(-2).clamp(min=1)

    words = model.name_cells(middle, head)
    visual = model.relate_cells(words[: len(labels) - extra])
    classes = mean_embedding(nouns)
    balance = torch.ones(len(nouns))
    balance[0] = 0.25
    for name, states in (("words", words), ("seen", visual)):
        logits = states.float() @ classes.T
        parts[name] = functional.cross_entropy(logits.flatten(0, 1), labels[: len(states)].flatten(), weight=balance, ignore_index=-100, label_smoothing=0.05)
    hidden = table[batch.input_ids]
    places = (batch.input_ids == config.image_token_id)[..., None]
    hidden = hidden.masked_scatter(places, visual[batch.image_of].to(hidden.dtype))
    mask = model.attention_mask_of(batch.input_ids, 0, batch.kept)
    rotary = rotary_tables(grid_positions(batch.input_ids, config), model._rotary_dimensions)
    readings = []
    for number, layer in enumerate(model.layers[:-1]):
        hidden = layer(hidden, rotary, mask)
        if number in (1, len(model.layers) - 2):
            cells = hidden[places[..., 0]].view(len(batch.input_ids), GRID * GRID, -1)
            readings.append(functional.rms_norm(cells.float(), cells.shape[-1:]))
    patches = readings[-1]
    most = max(len(candidate) for candidate in batch.candidates)
    longest = max(len(tokens) for candidate in batch.candidates for tokens in candidate)
    packed = torch.full((len(batch.candidates), most, longest), -1)
    for row, candidate in enumerate(batch.candidates):
        for column, tokens in enumerate(candidate):
            packed[row, column, : len(tokens)] = torch.tensor(tokens)
    phrases = mean_embedding(packed)
    positive = torch.where(batch.cells > 0, 2.0, 1.0).flatten()
    for name, states in zip(("early", "patch"), readings, strict=True):
        match = torch.einsum("qpd,qcd->qpc", states, phrases)
        match = match.masked_fill((packed[..., 0] < 0)[:, None], -1e4)
        each = functional.cross_entropy(match.flatten(0, 1), batch.cells.flatten(), ignore_index=-100, reduction="none")
        parts[name] = (each * positive).sum() / positive.sum()
    alike = batch.cells.view(-1, GRID, GRID)
    run = torch.ones_like(alike)
    for column in range(GRID - 2, -1, -1):
        run[..., column] = torch.where(alike[..., column] == alike[..., column + 1], run[..., column + 1] + 1, 1)
    run = torch.where(alike == -100, -100, run - 1)
    count_ids = torch.tensor(config.count_token_ids[:GRID])
    parts["run"] = functional.cross_entropy((patches @ table[count_ids].T).flatten(0, 1), run.flatten(), ignore_index=-100)

    # The last layer only matters where something is predicted; its keys still come from every token.
    chosen = batch.weights > 0
    begin = int(chosen.any(0).nonzero()[0])
    hidden = model.layers[-1](hidden, rotary, mask[:, :, begin:], None, begin)
    states = model.norm(hidden[:, :-1][chosen[:, begin:]])
    targets = batch.input_ids[:, 1:][chosen]
    weights = batch.weights[chosen]
    logits = (states @ table.T).float()
    parts["text"] = (functional.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
    rivals = batch.rivals[chosen]
    begins = rivals[:, 0] >= 0
    if begins.any():
        pair = logits[begins].gather(1, rivals[begins])
        thing = (targets[begins] == rivals[begins][:, 1]).long()
        parts["begin"] = functional.cross_entropy(pair, thing, weight=torch.tensor([1.0, 2.0]))
        parts["begin_right"] = (pair.argmax(1) == thing).float().mean().detach()
    room = batch.room[chosen]
    runs = room > 0
    if runs.any():
        sizes = torch.arange(1, GRID + 1)
        counted = logits[runs][:, count_ids].masked_fill(sizes > room[runs][:, None], -1e4)
        numbers = (targets[runs][:, None] == count_ids).long().argmax(1)
        heavy = torch.where(numbers + 1 == GRID, 0.25, 1.0)
        parts["count"] = (functional.cross_entropy(counted, numbers, reduction="none") * heavy).sum() / heavy.sum()
        short = numbers + 1 < GRID
        parts["count_right"] = (counted.argmax(1) == numbers)[short].float().mean().detach()
    with torch.no_grad():
        found, true = match.argmax(-1) > 0, batch.cells > 0
        referring = torch.tensor([len(candidate) == 2 for candidate in batch.candidates])[:, None]
        parts["I"] = (found & true & referring).sum().float()
        parts["U"] = ((found | true) & referring).sum().float()
    return parts


LOSS_WEIGHTS = {"words": 0.5, "seen": 0.5, "early": 1.0, "patch": 1.0, "run": 0.5, "text": 0.5, "begin": 1.0, "count": 1.0}


class Pool:
    """Scenes with tower features, from files that `training.nano.pool` wrote."""

    def __init__(self, files: Sequence[Path], nouns: Sequence[str]) -> None:
        loaded = [torch.load(file, weights_only=False) for file in files]
        self.middle = torch.cat([part["middle"] for part in loaded])
        self.head = torch.cat([part["head"] for part in loaded])
        self.meta = [item for part in loaded for item in part["meta"]]
        self.place = {noun: number for number, noun in enumerate(nouns)}

    def labels(self, index: int) -> torch.Tensor:
        """Return what each cell shows, int64 [256]; -100 where it is mixed or unknown."""
        names, shares, complete, _ = self.meta[index]
        label = np.full((GRID, GRID), 0 if complete else -100, np.int64)
        if len(names):
            label[shares.astype(np.int64).sum(0) > 25] = -100
            best = shares.argmax(0)
            known = np.array([self.place[name] for name in names])
            label = np.where(shares.max(0) > 110, known[best], label)
        return torch.from_numpy(label.reshape(-1))

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of every tower channel."""
        sample = slice(0, 400)
        middle, head = self.middle[sample].float(), self.head[sample].float()
        mean = torch.cat([middle.mean((0, 2, 3)), head.mean((0, 2, 3))])
        deviation = torch.cat([middle.std((0, 2, 3)), head.std((0, 2, 3))])
        return mean, deviation.clamp(min=0.05)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--extra", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    sprite_nouns = sorted({sprite.noun for sprite in split_sprites(load_sprites(options.sprites), held=False)})
    categories = [c["name"] for c in json.loads((options.photos / "instances.json").read_text())["categories"]]
    nouns = sorted({*sprite_nouns, *categories})
    captions = {key: texts for key, texts in load_captions(options.photos).items() if not held_out(f"photo {key}", 5)}
    every_noun = {sprite.noun for sprite in load_sprites(options.sprites)} | set(categories)
    tokenizer = build_tokenizer(known_words(every_noun, [text for texts in captions.values() for text in texts]))
    pool = Pool(options.pool, [OTHERS, *nouns])
    options.out.mkdir(parents=True, exist_ok=True)
    state_file = options.out / "state.pt"
    model = new_model(tokenizer)
    model.connector.mean, model.connector.deviation = pool.statistics()
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=options.rate, betas=(0.9, 0.98))
    spent, step = 0.0, 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
        rng.seed(step)
        print(f"going on from step {step}, {spent / 60:.1f} minutes", flush=True)
    collate = Collator(tokenizer, model)
    tokens = phrase_tokens(tokenizer, [OTHERS, *nouns])
    noun_tokens = torch.full((len(tokens), max(map(len, tokens))), -1)
    for row, ids in enumerate(tokens):
        noun_tokens[row, : len(ids)] = torch.tensor(ids)
    model.train()
    model.tower.eval()
    sums: dict[str, float] = {}
    seen, last, begun = 0, time.monotonic(), time.monotonic()
    base = spent
    while spent < options.minutes * 60:
        progress = spent / (options.minutes * 60)
        rate = options.rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        picks = [rng.randrange(len(pool.meta)) for _ in range(options.images)]
        groups = []
        for pick in picks:
            names, shares, complete, source = pool.meta[pick]
            groups.append(
                questions_of(
                    names, shares, complete=complete, captions=captions.get(source, []), nouns=nouns,
                    sprite_nouns=sprite_nouns, count=options.questions, rng=rng,
                )
            )  # fmt: skip
        batch = collate(groups)
        picks += [rng.randrange(len(pool.meta)) for _ in range(options.extra)]
        labels = torch.stack([pool.labels(pick) for pick in picks])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            parts = losses(model, batch, pool.middle[picks].float(), pool.head[picks].float(), labels, noun_tokens, options.extra)
        loss = torch.stack([weight * parts[name] for name, weight in LOSS_WEIGHTS.items() if name in parts]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        seen += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        spent = base + time.monotonic() - begun
        if seen == 50:
            union = max(sums.pop("U"), 1.0)
            overlap = sums.pop("I") / union
            shown = " ".join(f"{name} {value / seen:.3f}" for name, value in sums.items())
            pace = (time.monotonic() - last) / seen
            print(f"{spent / 60:6.1f} min step {step} lr {rate:.1e} {pace:.2f} s/step cIoU {overlap:.3f} {shown}", flush=True)
            sums, seen, last = {}, 0, time.monotonic()
            if step % 200 == 0:
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}, state_file)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}, state_file)
    save(model, tokenizer, options.out)


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
    Text4SegNanoProcessor(tokenizer, image_size=model.config.image_size, image_tokens=GRID * GRID).save_pretrained(out)


if __name__ == "__main__":
    main()
