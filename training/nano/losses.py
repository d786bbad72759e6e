"""What the nano model learns from a batch.

Besides the next token it learns, in every cell, the name of what is there (at the connector), whether the cell
belongs to the phrase (after two layers, and again before the last), and how far its run reaches. These dense
targets teach in minutes what the text alone did not teach in an hour: see docs/experiments.md.
"""

import torch
import torch.nn.functional as functional

from text4seg_nano import Text4SegNanoForConditionalGeneration
from text4seg_nano.modeling import rotary_tables
from text4seg_nano.positions import grid_positions
from training.nano.batch import Batch
from training.nano.questions import GRID

LOSS_WEIGHTS = {
    "words": 0.5,
    "seen": 0.5,
    "early": 1.0,
    "patch": 1.0,
    "run": 0.5,
    "text": 0.5,
    "begin": 1.0,
    "count": 1.0,
}


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
        parts[name] = functional.cross_entropy(
            logits.flatten(0, 1),
            labels[: len(states)].flatten(),
            weight=balance,
            ignore_index=-100,
            label_smoothing=0.05,
        )
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
        each = functional.cross_entropy(
            match.flatten(0, 1), batch.cells.flatten(), ignore_index=-100, reduction="none"
        )
        parts[name] = (each * positive).sum() / positive.sum()
    alike = batch.cells.view(-1, GRID, GRID)
    run = torch.ones_like(alike)
    for column in range(GRID - 2, -1, -1):
        run[..., column] = torch.where(
            alike[..., column] == alike[..., column + 1], run[..., column + 1] + 1, 1
        )
    run = torch.where(alike == -100, -100, run - 1)
    count_ids = torch.tensor(config.count_token_ids[:GRID])
    parts["run"] = functional.cross_entropy(
        (patches @ table[count_ids].T).flatten(0, 1), run.flatten(), ignore_index=-100
    )

    # The last layer only matters where something is predicted; its keys still come from every token.
    chosen = batch.weights > 0
    begin = int(chosen.any(0).nonzero()[0])
    hidden = model.layers[-1](hidden, rotary, mask[:, :, begin:], None, begin)
    states = model.norm(hidden[:, :-1][chosen[:, begin:]])
    targets = batch.input_ids[:, 1:][chosen]
    weights = batch.weights[chosen]
    logits = (states @ table.T).float()
    parts["text"] = (
        functional.cross_entropy(logits, targets, reduction="none") * weights
    ).sum() / weights.sum()
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
        parts["count"] = (
            functional.cross_entropy(counted, numbers, reduction="none") * heavy
        ).sum() / heavy.sum()
        short = numbers + 1 < GRID
        parts["count_right"] = (counted.argmax(1) == numbers)[short].float().mean().detach()
    with torch.no_grad():
        found, true = match.argmax(-1) > 0, batch.cells > 0
        referring = torch.tensor([len(candidate) == 2 for candidate in batch.candidates])[:, None]
        parts["I"] = (found & true & referring).sum().float()
        parts["U"] = ((found | true) & referring).sum().float()
    return parts
