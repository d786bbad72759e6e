"""Conversations as model inputs, with labels on the answers and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from training.tuning.backbone import Base, one_line
from training.tuning.conversations import Conversation, Conversations
from training.tuning.recipe import TuningError

UNKNOWN = -100
"""Label of a token that is not learned."""

_CONTEXTS = ("\n", ":", "x", "0")

Example = dict[str, torch.Tensor]
"""Tensors as a model takes them, with a batch dimension of 1: ``input_ids``, ``attention_mask`` and
``labels`` int64 [1, length], and what the processor makes of the image."""


class Examples(Dataset[Example]):
    """Conversations as model inputs, made when they are asked for.

    Args:
        conversations: the data.
        base: writes and reads them.
        max_tokens: longest example; what is beyond is cut off.
    """

    def __init__(self, conversations: Conversations, base: Base, max_tokens: int) -> None:
        self._conversations = conversations
        self._base = base
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self._conversations)

    def __getitem__(self, index: int) -> Example:
        """Return one example.

        Raises:
            TuningError: the image is damaged, or image and question alone are too long.
        """
        return encode(self._conversations[index], self._base, self._max_tokens)


def encode(conversation: Conversation, base: Base, max_tokens: int) -> Example:
    """Return a conversation as model input.

    The first question is read as it is when served, by the processor; everything after it is appended piece
    by piece. An answer is learned with what ends it.

    Raises:
        TuningError: the image is damaged, image and question alone are too long, or the chat template
            changes what it wrote before.
    """
    pieces = split(conversation, base)
    prompt = pieces[0][0]
    tokenizer = base.processor.tokenizer
    start = tokenizer.bos_token
    whole = base.prompt is not None or (start and prompt.startswith(start))
    options = {"add_special_tokens": False} if whole else {}
    picture = _picture(conversation, base)
    encoded = base.processor(text=[prompt], images=[picture], return_tensors="pt", **options)
    example = {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}
    read = example["input_ids"].shape[1]
    if read >= max_tokens:
        raise TuningError(
            f"{conversation.source}: image and question take {read} tokens; the recipe's max_tokens is "
            f"{max_tokens}"
        )
    tokens: list[int] = []
    labels: list[int] = []
    before = prompt
    for piece, learned in pieces[1:]:
        added = continuation(tokenizer, before, piece)
        tokens += added
        labels += added if learned else [UNKNOWN] * len(added)
        before += piece
    room = max_tokens - read
    tail = torch.tensor([tokens[:room]])
    for name, value in list(example.items()):
        if value.shape == (1, read):
            filled = {"input_ids": tail, "attention_mask": torch.ones_like(tail)}
            example[name] = torch.cat([value, filled.get(name, torch.zeros_like(tail)).to(value.dtype)], 1)
    example["labels"] = torch.tensor([[UNKNOWN] * read + labels[:room]])
    return example


def split(conversation: Conversation, base: Base) -> list[tuple[str, bool]]:
    """Return a conversation as the pieces of its text, and whether each is learned.

    The first piece ends where the first answer begins. A line break behind what ends an answer belongs to
    the next question.

    Raises:
        TuningError: the chat template changes what it wrote before.
    """
    turns = conversation.turns
    pieces: list[tuple[str, bool]] = []
    written = ""
    for place in range(0, len(turns), 2):
        opened = base.opened(turns[: place + 1])
        closed = base.closed(turns[: place + 2])
        if not (opened.startswith(written) and closed.startswith(opened)):
            raise TuningError(f"{base.path}: the chat template changes what it wrote of earlier turns")
        answer = closed[len(opened) :].rstrip("\n")
        learned = conversation.learned == "all" or place + 2 == len(turns)
        pieces += [(opened[len(written) :], False), (answer, learned)]
        written = opened + answer
    return pieces


def continuation(tokenizer: Any, before: str, piece: str) -> list[int]:
    """Return the tokens of a text that goes on from another, without changing the tokens of that.

    Where a tokenizer would join characters of both into one token, the piece is read behind something else: a
    model that writes an answer begins it with a token of its own too. Read alone it would get the ``▁`` that
    Llama's tokenizer puts before every text.
    """
    for context in (before, *_CONTEXTS):
        head = tokenizer(context, add_special_tokens=False)["input_ids"]
        both = tokenizer(context + piece, add_special_tokens=False)["input_ids"]
        if both[: len(head)] == head:
            return list(both[len(head) :])
    return list(tokenizer(piece, add_special_tokens=False)["input_ids"])


class Collator:
    """Joins examples to a batch, padded on the right.

    Args:
        pad: id of the padding token.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, examples: Sequence[Example]) -> Example:
        """Return the batch: texts int64 [batch, longest], images joined along their first dimension."""
        longest = max(example["input_ids"].shape[1] for example in examples)
        fills = {"input_ids": self._pad, "labels": UNKNOWN}
        batch: Example = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            if all(example[name].shape == example["input_ids"].shape for example in examples):
                fill = fills.get(name, 0)
                values = [
                    functional.pad(value, (0, longest - value.shape[1]), value=fill) for value in values
                ]
            batch[name] = torch.cat(values)
        return batch


def answer_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the mean cross-entropy of the labelled tokens.

    Args:
        outputs: with ``logits``, float [batch, length, vocabulary].
        labels: int64 [batch, length], :data:`UNKNOWN` where nothing is learned.
        num_items_in_batch: labelled tokens of the whole step, of which this may be a part; None: of this.
    """
    following = labels[:, 1:]
    kept = following != UNKNOWN
    logits = outputs["logits"][:, :-1][kept].float()
    total = functional.cross_entropy(logits, following[kept], reduction="sum")
    return total / (max(int(kept.sum()), 1) if num_items_in_batch is None else num_items_in_batch)


def _picture(conversation: Conversation, base: Base) -> Image.Image:
    try:
        with Image.open(conversation.image) as stored:
            picture = ImageOps.exif_transpose(stored).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TuningError(
            f"{conversation.source}: cannot read {conversation.image}: {one_line(error)}"
        ) from error
    size = base.image_size
    if size is None or picture.size == (size[1], size[0]):
        return picture
    return picture.resize((size[1], size[0]), base.resample)
