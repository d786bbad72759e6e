"""Transformer layers of the nano model, with two-dimensional rotary embeddings."""

import torch
import torch.nn.functional as functional
from torch import nn
from transformers import Cache

from text4seg_nano.configuration import Text4SegNanoConfig


def rotary_tables(positions: torch.Tensor, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of two-dimensional rotary embeddings.

    The first half of the angles turns with the row, the second with the column; wave lengths reach from 3 to
    25 cells.

    Args:
        positions: (row, column) of every token, [batch, length, 2].
        dimensions: How many dimensions of each head turn; a multiple of 4.

    Returns:
        Two times float32 [batch, 1, length, dimensions / 2].
    """
    frequencies = 2.0 * 0.5 ** torch.arange(dimensions // 4, device=positions.device)
    angles = torch.cat([positions[..., axis, None].float() * frequencies for axis in (0, 1)], dim=-1)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn the first dimensions of each head; the others, which compare contents, stay.

    Args:
        states: float [batch, heads, length, head width].
        cosines: From `rotary_tables`.
        sines: From `rotary_tables`.
    """
    half = cosines.shape[-1]
    first, second, content = states[..., :half], states[..., half : 2 * half], states[..., 2 * half :]
    cosines, sines = cosines.to(states.dtype), sines.to(states.dtype)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines, content], dim=-1)


class Attention(nn.Module):
    """Multi-head attention with biased queries and keys: the biases let a head look at a fixed distance."""

    def __init__(self, config: Text4SegNanoConfig, layer: int | None) -> None:
        super().__init__()
        self.heads, self.layer = config.num_attention_heads, layer
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        cache: Cache | None,
        begin: int,
    ) -> torch.Tensor:
        """Mix the values of the keys that each query sees; see `Layer.forward` for the arguments."""
        batch, length, width = hidden.shape

        def split(states: torch.Tensor) -> torch.Tensor:
            return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        query = rotate(split(self.query(hidden)), *rotary)[:, :, begin:]
        key = rotate(split(self.key(hidden)), *rotary)
        value = split(self.value(hidden))
        if cache is not None and self.layer is not None:
            key, value = cache.update(key, value, self.layer)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: torch.Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length - begin, width))
        return output


class Layer(nn.Module):
    """A pre-norm transformer layer with a gated feed-forward network (Shazeer, 2020)."""

    def __init__(self, config: Text4SegNanoConfig, layer: int | None) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gate = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        begin: int = 0,
    ) -> torch.Tensor:
        """Return the next hidden states from position `begin` on, float [batch, length - begin, hidden].

        Args:
            hidden: float [batch, length, hidden].
            rotary: From `rotary_tables`, for all positions.
            mask: Which keys each query sees, bool [batch, heads, length - begin, keys]; None: all.
            cache: Keys and values of the tokens before; those of `hidden` are added to it.
            begin: The first position whose output is wanted.
        """
        mixed = self.attention(self.attention_norm(hidden), rotary, mask, cache, begin)
        hidden = hidden[:, begin:] + mixed
        gate, value = self.gate(self.feed_forward_norm(hidden)).chunk(2, dim=-1)
        added: torch.Tensor = self.down(functional.silu(gate) * value)
        return hidden + added
