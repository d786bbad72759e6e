"""Examples as token sequences, with what each token teaches."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec
from text4seg_nano import Text4SegNanoConfig
from training.nano.questions import Example
from training.nano.start import phrase_tokens
from training.nano.tokenizer import ASSISTANT, END, IMAGE, USER

IN_BLOCK, IN_SENTENCE = 0.5, 0.1
"""Weights of predicting a token: of a descriptor or a caption, and of the sentence before a descriptor."""
UNKNOWN = -100
"""What `torch.nn.functional.cross_entropy` ignores."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of several questions about several images.

    Attributes:
        input_ids: int64 [questions, length], right-padded.
        kept: bool [questions, length], false on padding.
        weights: float [questions, length - 1]: weight of predicting the next token.
        rivals: int64 [questions, length - 1, 2]: where a row begins in a referring answer, in full length at
            every cell, the two tokens that may come; -1 elsewhere.
        room: int64 [questions, length - 1]: at a run length, the largest that fits; 0 elsewhere.
        image_of: int64 [questions]: which image.
        candidates: int64 [questions, labels, tokens]: tokens of each label, "others" first; -1 where there is
            none.
        cells: int64 [questions, grid * grid]: true label of each cell, an index into the candidates; -100:
            unknown.
        named: bool [questions]: whether the question names its labels, so that it is not an open one.
    """

    input_ids: torch.Tensor
    kept: torch.Tensor
    weights: torch.Tensor
    rivals: torch.Tensor
    room: torch.Tensor
    image_of: torch.Tensor
    candidates: torch.Tensor
    cells: torch.Tensor
    named: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


@dataclass(frozen=True, slots=True)
class Row:
    """One question as tokens; places count predictions: place i predicts token i + 1."""

    tokens: list[int]
    weights: list[float]
    rivals: dict[int, tuple[int, int]]
    room: dict[int, int]


class Collator:
    """Turns examples into token sequences."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: Text4SegNanoConfig) -> None:
        self.tokenizer, self.pad, self.image = tokenizer, config.pad_token_id, IMAGE * config.grid**2
        self.codec, self.longest = Codec(config.codec), config.longest_run
        self.others = phrase_tokens(tokenizer, [OTHERS])[0]
        self.counts = {token: number for number, token in enumerate(config.count_token_ids, 1)}
        self.open = config.seg_open_token_id
        self.starts = {self.open, config.row_token_id}
        if self.codec is Codec.FULL:
            self.starts |= {config.bar_token_id}
        self.close = config.seg_close_token_id

    def __call__(self, groups: Sequence[Sequence[Example]], *, written: bool = True) -> Batch:
        """Return one batch; group i belongs to image i; descriptors are not `written` but only begun."""
        examples = [example for group in groups for example in group]
        rows = [self.row(example, written=written) for example in examples]
        count, length = len(rows), max(len(row.tokens) for row in rows)
        ids = torch.full((count, length), self.pad)
        kept = torch.zeros((count, length), dtype=torch.bool)
        weights = torch.zeros((count, length - 1))
        rivals = torch.full((count, length - 1, 2), -1)
        room = torch.zeros((count, length - 1), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row.tokens)] = torch.tensor(row.tokens)
            kept[number, : len(row.tokens)] = True
            weights[number, : len(row.weights)] = torch.tensor(row.weights)
            for place, pair in row.rivals.items():
                rivals[number, place] = torch.tensor(pair)
            for place, most in row.room.items():
                room[number, place] = most
        cells = np.stack([example.cells.reshape(-1) for example in examples]).astype(np.int64)
        cells[[not example.labels for example in examples]] = UNKNOWN
        candidates = [[self.others, *phrase_tokens(self.tokenizer, example.labels)] for example in examples]
        most = max(len(labels) for labels in candidates)
        longest = max(len(tokens) for labels in candidates for tokens in labels)
        packed = torch.full((count, most, longest), -1)
        for number, labels in enumerate(candidates):
            packed[number, : len(labels)] = padded(labels, longest)
        image_of = torch.tensor([number for number, group in enumerate(groups) for _ in group])
        named = [all(label in example.question for label in example.labels) for example in examples]
        return Batch(
            ids, kept, weights, rivals, room, image_of, packed, torch.from_numpy(cells), torch.tensor(named)
        )

    def row(self, example: Example, *, written: bool = True) -> Row:
        """Return one question as tokens, with what each prediction teaches."""
        prompt = f"{USER}{self.image}{example.question}{ASSISTANT}"
        block = example.block_in(self.codec)
        answer = dialogue.answer_text(example.sentence, block) if block else example.sentence
        prompt_ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        answer_ids = self.tokenizer(answer + END, add_special_tokens=False).input_ids
        if example.block and not written:
            answer_ids = answer_ids[: answer_ids.index(self.open) + 1]
        tokens = [*prompt_ids, *answer_ids]
        weights = [0.0] * (len(tokens) - 1)
        rivals: dict[int, tuple[int, int]] = {}
        room: dict[int, int] = {}
        inside, column = False, 0  # in I-RLE the only line is the whole image
        first = phrase_tokens(self.tokenizer, example.labels)[0][0] if example.referring else -1
        for place in range(len(prompt_ids) - 1, len(tokens) - 1):
            before, token = tokens[place], tokens[place + 1]
            weights[place] = IN_BLOCK if inside or not example.block else IN_SENTENCE
            if before in self.starts:
                inside, column = True, 0
                if example.referring:
                    rivals[place] = (self.others[0], first)
            if inside and token in self.counts:
                room[place] = self.longest - column
                column += self.counts[token]
            if token == self.close:
                inside = False
        return Row(tokens, weights, rivals, room)


def padded(lists: Sequence[Sequence[int]], length: int | None = None) -> torch.Tensor:
    """Return token lists as int64 [lists, length or the longest], filled up with -1."""
    table = torch.full((len(lists), length or max(map(len, lists))), -1)
    for row, tokens in enumerate(lists):
        table[row, : len(tokens)] = torch.tensor(tokens)
    return table
