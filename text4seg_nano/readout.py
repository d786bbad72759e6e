"""What a token of a descriptor reads off the cells: the name of its own cell, and how far its run reaches."""

import torch
import torch.nn.functional as functional
from torch import nn

from text4seg.descriptors import Codec
from text4seg_nano.configuration import Text4SegNanoConfig

IMPOSSIBLE = -30.0
"""Logit of a run that would leave its line, and of a word that is no part of the question."""
UNASKED = -10.0
"""The logit of a cell being asked for when the question has no word for anything."""


class Readout(nn.Module):
    """Copies from the cells to the logits, as a pointer network copies words (See et al., 2017).

    A cell already tells what it shows in word-embedding space. A token that writes a label need not find that
    out again: the state of the cell it stands on is added to its own, through a gate. A token that writes a
    run length compares each further cell of the row with the label just written; the run ends at the first
    cell that is not alike, so its length has the distribution of a discrete-time survival model. A run of
    "others" must know what else a cell could be called: that is read off the words of the question. So is
    whether a label that is written next can be "others".

    In I-RLE a run goes on in the next row, to the end of the image; in full length only names are read.
    """

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        self.grid, self.longest = config.grid, config.longest_run
        self.wraps = config.codec == Codec.IRLE
        self.gate = nn.Linear(config.hidden_size, 1)
        self.alike = nn.Linear(config.hidden_size, config.hidden_size)
        self.meant = nn.Linear(config.hidden_size, 1)
        self.follow = nn.Linear(config.hidden_size, 1)
        self.doubt = nn.Linear(config.hidden_size, 1)

    def asked(
        self,
        cells: torch.Tensor,
        states: torch.Tensor,
        words: torch.Tensor,
        others: torch.Tensor,
        text: torch.Tensor,
    ) -> torch.Tensor:
        """Return the logits of the cells being what the question asks for, float32 [batch, cells].

        A cell is compared with every word of the question; the state of the word tells whether it names a
        thing or only belongs to the sentence.

        Args:
            cells: Normalised states of the visual tokens, float [batch, cells, hidden].
            states: Normalised states of all tokens, float [batch, length, hidden].
            words: Word embeddings of all tokens, float [batch, length, hidden].
            others: Word embedding of "others", float [hidden].
            text: Which tokens are the question, bool [batch, length].
        """
        meant = functional.logsigmoid(self.meant(states).float()).transpose(1, 2)
        scores = (cells @ words.transpose(1, 2)).float() + meant
        named = scores.masked_fill(~text[:, None], IMPOSSIBLE).logsumexp(-1) - (cells @ others).float()
        return torch.logaddexp(named, torch.full_like(named, UNASKED))

    def forward(
        self, tokens: torch.Tensor, cells: torch.Tensor, asked: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what to add to the tokens' states, to the logit of "others" and to those of run lengths.

        Args:
            tokens: Normalised last states, float [batch, length, hidden].
            cells: Normalised states of the visual tokens, float [batch, grid * grid, hidden].
            asked: From `asked`, float [batch, grid * grid].
            positions: From `positions.grid_positions`, int64 [batch, length, 3].

        Returns:
            float [batch, length, hidden], float32 [batch, length, 1], and float32 [batch, length, longest
            run] for the lengths from 1 on; outside of descriptors zero, and no run length is possible.
        """
        row, column, describes = positions.unbind(-1)
        last = self.grid - 1
        place = row.clamp(0, last) * self.grid + column.clamp(max=last)
        here = cells.gather(1, place[..., None].expand(-1, -1, cells.shape[-1]))
        open_row = (describes > 0) & (row <= last) & (column <= last)
        names = torch.where(open_row[..., None], torch.sigmoid(self.gate(tokens)) * here, 0.0)
        doubt = self.doubt(tokens).float() * asked.gather(1, place)[..., None]
        others = torch.where(open_row[..., None], -doubt, 0.0)

        if not self.longest:
            return names, others, others.new_zeros(*row.shape, 0)
        scores = (self.alike(tokens) @ cells.transpose(1, 2)).float()
        scores = scores + self.follow(tokens).float() * asked[:, None]
        # A line is what a run stays in: a row, or all rows one behind the other.
        line, begin = (row * 0, row.clamp(min=0) * self.grid + column) if self.wraps else (row, column)
        last = self.longest - 1
        lines = line.clamp(0, self.grid - 1)[..., None, None].expand(-1, -1, 1, self.longest)
        scores = scores.unflatten(2, (-1, self.longest)).gather(2, lines).squeeze(2)
        further = begin[..., None] + torch.arange(1, self.longest, device=column.device)
        scores = scores.gather(2, further.clamp(max=last))
        within = further <= last
        goes_on = torch.where(within, functional.logsigmoid(scores), 0.0).cumsum(-1)
        ends = torch.where(within, functional.logsigmoid(-scores), 0.0)
        lengths = functional.pad(goes_on, (1, 0)) + functional.pad(ends, (0, 1))
        fits = torch.cat([begin[..., None] <= last, within], dim=-1)
        lengths = lengths.masked_fill(~fits, IMPOSSIBLE)
        return names, others, torch.where(describes[..., None] > 0, lengths, IMPOSSIBLE)
