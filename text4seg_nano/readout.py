"""What a token of a descriptor reads off the cells: the name of its own cell, and how far its run reaches."""

import torch
import torch.nn.functional as functional
from torch import nn

from text4seg_nano.configuration import Text4SegNanoConfig

IMPOSSIBLE = -30.0
"""Added to the logit of a run that would leave the row."""


class Readout(nn.Module):
    """Copies from the cells to the logits, as a pointer network copies words (See et al., 2017).

    A cell already tells what it shows in word-embedding space. A token that writes a label need not find that
    out again: the state of the cell it stands on is added to its own, through a gate. A token that writes a
    run length compares each further cell of the row with the label just written; the run ends at the first
    cell that is not alike, so its length has the distribution of a discrete-time survival model.
    """

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.gate = nn.Linear(config.hidden_size, 1)
        self.alike = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, tokens: torch.Tensor, cells: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what to add to the tokens' states and to the logits of the run lengths 1 to grid.

        Args:
            tokens: Normalised last states, float [batch, length, hidden].
            cells: Normalised states of the visual tokens, float [batch, grid * grid, hidden].
            positions: From `positions.grid_positions`, int64 [batch, length, 3].

        Returns:
            float [batch, length, hidden], and float32 [batch, length, grid]; zero outside of descriptors.
        """
        row, column, describes = positions.unbind(-1)
        last = self.grid - 1
        place = row.clamp(0, last) * self.grid + column.clamp(max=last)
        here = cells.gather(1, place[..., None].expand(-1, -1, cells.shape[-1]))
        open_row = (describes > 0) & (row <= last) & (column <= last)
        names = torch.where(open_row[..., None], torch.sigmoid(self.gate(tokens)) * here, 0.0)

        scores = (self.alike(tokens) @ cells.transpose(1, 2)).unflatten(2, (self.grid, self.grid))
        rows = row.clamp(0, last)[..., None, None].expand(-1, -1, 1, self.grid)
        scores = scores.gather(2, rows).squeeze(2).float()
        further = column[..., None] + torch.arange(1, self.grid, device=column.device)
        scores = scores.gather(2, further.clamp(max=last))
        within = further <= last
        goes_on = torch.where(within, functional.logsigmoid(scores), 0.0).cumsum(-1)
        ends = torch.where(within, functional.logsigmoid(-scores), 0.0)
        lengths = functional.pad(goes_on, (1, 0)) + functional.pad(ends, (0, 1))
        fits = torch.cat([column[..., None] <= last, within], dim=-1)
        lengths = lengths.masked_fill(~fits, IMPOSSIBLE)
        return names, torch.where(describes[..., None] > 0, lengths, 0.0)
