"""Examples as token sequences, with what each token teaches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration
from training.nano.questions import GRID, Example
from training.nano.start import phrase_tokens
from training.nano.tokenizer import ASSISTANT, END, IMAGE, USER


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

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, model: Text4SegNanoForConditionalGeneration
    ) -> None:
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
        cells = torch.from_numpy(
            np.stack([example.cells.reshape(-1) for _, example in examples]).astype(np.int64)
        )
        for number, (_, example) in enumerate(examples):
            if not example.labels:
                cells[number] = -100
        candidates = [
            [self.others, *phrase_tokens(self.tokenizer, example.labels)] if example.labels else [self.others]
            for _, example in examples
        ]
        image_of = torch.tensor([number for number, _ in examples])
        return Batch(ids, kept, weights, rivals, room, image_of, candidates, cells)

    def _row(
        self, example: Example
    ) -> tuple[list[int], list[float], dict[int, tuple[int, int]], dict[int, int]]:
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
