"""What the nano model learns from a batch.

Besides the next token it learns, in every cell, the name of what is there (before and after the image
layers), and whether the cell belongs to the phrase (after two layers, and again before the last, where the
answer reads it off), and there also whether it is asked for at all, and to cover all that is.
These dense targets teach in minutes what the text alone did not teach in an hour: see docs/experiments.md.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as functional

from text4seg_nano import Text4SegNanoForConditionalGeneration
from text4seg_nano.positions import grid_positions
from training.nano.batch import UNKNOWN, Batch

LOSS_WEIGHTS = {
    "named": 0.5,
    "seen": 0.5,
    "early": 1.0,
    "patch": 1.0,
    "asked": 1.0,
    "missed": 0.5,
    "text": 0.25,
    "begin": 1.0,
    "count": 1.0,
    "caption": 0.5,
}
EARLY_LAYER = 1
"""Number of the layer after which cells first tell whether they belong to the phrase."""
CELL_POSITIVE = 1.5
"""Weight of cells that belong to a label, beside 1 for "others"."""
IMPOSSIBLE = -1e4


def losses(
    model: Text4SegNanoForConditionalGeneration,
    batch: Batch,
    features: torch.Tensor,
    labels: torch.Tensor,
    nouns: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return the parts of the loss (those of `LOSS_WEIGHTS`) and how often each kind of decision was right.

    What nothing of the batch teaches is not among them.

    Args:
        model: The model in training mode, with at least three layers.
        batch: Token sequences.
        features: Of the tower, with stride 16, float [images, channels, grid, grid].
        labels: int64 [images, grid * grid]: index into `nouns` of what each cell shows, -100: unknown.
        nouns: int64 [nouns, tokens]: tokens of each noun, -1 padded; "others" first.
    """
    table = model.embed_tokens.weight
    local = model.name_cells(features)
    visual = model.relate_cells(local)
    classes = mean_embedding(table, nouns)
    parts = {"seen": naming_loss(visual, classes, labels)}
    if local.requires_grad:
        parts["named"] = naming_loss(local, classes, labels)
    places = batch.input_ids == model.config.image_token_id
    hidden = table[batch.input_ids]
    hidden = hidden.masked_scatter(places[..., None], visual[batch.image_of].to(hidden.dtype))
    positions = grid_positions(batch.input_ids, model.config)
    mask = model.attention_mask_of(batch.input_ids, positions, 0, batch.kept)
    rotary = model.rotary(positions)
    readings: dict[int, torch.Tensor] = {}
    stages = {"early": EARLY_LAYER, "patch": len(model.layers) - 2}
    for number, layer in enumerate(model.layers[:-1]):
        hidden = layer(hidden, rotary, mask)
        if number in stages.values():
            readings[number] = model.cells_of(hidden, positions).float()
    phrases = mean_embedding(table, batch.candidates)
    for name, number in stages.items():
        parts[name], match = phrase_loss(readings[number], phrases, batch)
    cells = readings[stages["patch"]]
    asked = model.asked_of(cells, hidden, table[batch.input_ids], positions, batch.kept)
    parts["asked"], parts["missed"] = asked_losses(asked, batch)

    # The last layer only matters where something is predicted; its keys still come from every token.
    chosen = batch.weights > 0
    begin = int(chosen.any(0).nonzero()[0])
    hidden = model.layers[-1](hidden, rotary, mask[:, :, begin:], None, begin)
    logits = model.logits_of(hidden[:, :-1], cells, asked, positions[:, begin:-1])
    logits = logits[chosen[:, begin:]].float()
    parts |= writing_losses(logits, batch, chosen, model.config.count_token_ids[: model.config.longest_run])
    with torch.no_grad():
        found, true = match.argmax(-1) > 0, batch.cells > 0
        referring = ((batch.candidates[..., 0] >= 0).sum(1) == 2)[:, None]
        parts["I"] = (found & true & referring).sum().float()
        parts["U"] = ((found | true) & referring).sum().float()
    return parts


def weighted(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the sum of the parts of the loss by their `LOSS_WEIGHTS`."""
    return torch.stack([weight * parts[name] for name, weight in LOSS_WEIGHTS.items() if name in parts]).sum()


def mean_embedding(table: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean word embedding of token lists, int64 [..., tokens], -1 padded: float [..., hidden]."""
    real = (tokens >= 0).float()[..., None]
    return (table[tokens.clamp(min=0)] * real).sum(-2) / real.sum(-2).clamp(min=1)


def naming_loss(states: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how badly states [images, cells, hidden] name what is there; "others" counts a quarter."""
    balance = torch.ones(len(classes), device=classes.device)
    balance[0] = 0.25
    logits = states.float() @ classes.T
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), weight=balance, ignore_index=UNKNOWN, label_smoothing=0.05
    )


def phrase_loss(
    states: torch.Tensor, phrases: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how badly cells tell their label, and the logits, float [questions, cells, labels].

    Args:
        states: Normalised states of the visual tokens, float [questions, cells, hidden].
        phrases: Mean word embedding of each label, float [questions, labels, hidden].
        batch: Holds the true labels; cells that show something count `CELL_POSITIVE` times.
    """
    match = torch.einsum("qpd,qcd->qpc", states, phrases)
    match = match.masked_fill((batch.candidates[..., 0] < 0)[:, None], IMPOSSIBLE)
    positive = torch.where(batch.cells > 0, CELL_POSITIVE, 1.0).flatten()
    each = functional.cross_entropy(
        match.flatten(0, 1), batch.cells.flatten(), ignore_index=UNKNOWN, reduction="none"
    )
    return (each * positive).sum() / positive.sum(), match


def asked_losses(asked: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how badly cells tell whether they are asked for, and the share that they miss.

    Open questions ask for nothing. The share is 1 - cIoU of the batch with probabilities for cells (the soft
    Jaccard loss of Rahman and Wang, 2016), so that it weighs large things as the measure does.

    Args:
        asked: Logits, float [questions, grid * grid].
        batch: Holds the true labels.
    """
    known = (batch.cells != UNKNOWN) & batch.named[:, None]
    true = (batch.cells > 0).float()
    weights = torch.where(true > 0, CELL_POSITIVE, 1.0) * known
    each = functional.binary_cross_entropy_with_logits(asked, true, reduction="none")
    probability, true = asked.sigmoid() * known, true * known
    overlap = (probability * true).sum()
    missed = 1 - (overlap + 1) / ((probability + true).sum() - overlap + 1)
    return (each * weights).sum() / weights.sum().clamp(min=1), missed


def writing_losses(
    logits: torch.Tensor, batch: Batch, chosen: torch.Tensor, count_token_ids: list[int]
) -> dict[str, torch.Tensor]:
    """Return the losses of the text: all of it, how rows begin, and run lengths among those that fit.

    Args:
        logits: float [chosen places, vocabulary].
        batch: Token sequences.
        chosen: bool [questions, length - 1]: the places that predict something.
        count_token_ids: Tokens of the run lengths from 1 to the longest.
    """
    device = logits.device
    targets, weights = batch.input_ids[:, 1:][chosen], batch.weights[chosen]
    every = functional.cross_entropy(logits, targets, reduction="none")
    parts = {"text": (every * weights).sum() / weights.sum()}
    plain = (batch.candidates[:, 1:, 0] < 0).all(1)[:, None].expand_as(chosen)[chosen]
    if plain.any():
        parts["caption"] = every[plain].mean()
    rivals = batch.rivals[chosen]
    begins = rivals[:, 0] >= 0
    if begins.any():
        pair = logits[begins].gather(1, rivals[begins])
        thing = (targets[begins] == rivals[begins][:, 1]).long()
        parts["begin"] = functional.cross_entropy(pair, thing)
        parts["begin_right"] = (pair.argmax(1) == thing).float().mean().detach()
    room = batch.room[chosen]
    runs = room > 0
    if runs.any():
        count_ids = torch.tensor(count_token_ids, device=device)
        sizes = torch.arange(1, len(count_token_ids) + 1, device=device)
        counted = logits[runs][:, count_ids].masked_fill(sizes > room[runs][:, None], IMPOSSIBLE)
        numbers = (targets[runs][:, None] == count_ids).long().argmax(1)
        parts["count"] = functional.cross_entropy(counted, numbers)
        short = numbers + 1 < len(count_token_ids)
        parts["count_right"] = (counted.argmax(1) == numbers)[short].float().mean().detach()
    return parts
