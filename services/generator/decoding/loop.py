"""Greedy decoding under a grammar, with forced tokens for free.

Written by hand because ``transformers``' ``generate`` cannot take tokens that the grammar forces: about half
of a descriptor. Here they join the next forward pass, and cost nothing of their own. The tokens are the same
as when each is fed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from services.generator.decoding.constraint import TokenConstraint
from text4seg.errors import InternalError
from text4seg.segmentation import FinishReason


@dataclass(frozen=True, slots=True)
class Step:
    """The tokens since the last step: one choice of the model, then what the grammar forced.

    Attributes:
        tokens: (token id, natural log-probability among the allowed tokens) in order; 0 for forced tokens.
        forced: how many of them were forced.
        finish: set in the last step only.
    """

    tokens: tuple[tuple[int, float], ...]
    forced: int
    finish: FinishReason | None


class Context(Protocol):
    """A language model and what it has read so far."""

    def feed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read tokens (at first the prompt, then these); return float logits [vocabulary] of what follows."""
        ...


def decode(
    context: Context,
    constraint: TokenConstraint,
    end_tokens: frozenset[int],
    max_tokens: int,
    cancelled: Callable[[], bool],
    *,
    batch_forced: bool = True,
) -> Iterator[Step]:
    """Write one answer.

    The first step holds what is forced from the start, and comes before the model has read anything. When
    ``cancelled`` says so the iterator just ends, before the next forward pass.

    Args:
        context: the model, with its prompt not yet read.
        constraint: fresh, or advanced past what the prompt already holds.
        end_tokens: tokens that end the answer; they are no part of it.
        max_tokens: most tokens to write, forced ones included; at least 1.
        cancelled: asked before every forward pass.
        batch_forced: whether forced tokens share a forward pass. For tests: it changes no token.

    Raises:
        InternalError: when grammar and tokens disagree, or the logits are not finite.
    """
    chosen: list[tuple[int, float]] = []
    written = 0
    while True:
        forced = constraint.advance_forced(max_tokens - written - len(chosen))
        tokens = (*chosen, *((token, 0.0) for token in forced))
        written += len(tokens)
        finish = _finish(constraint, written, max_tokens)
        yield Step(tokens=tokens, forced=len(forced), finish=finish)
        if finish is not None or cancelled():
            return
        allowed = constraint.allowed()
        logits = _feed(context, [token for token, _ in tokens], batch_forced)
        token, logprob = choose(logits, torch.from_numpy(allowed))
        if token in end_tokens:
            yield Step(tokens=(), forced=0, finish=FinishReason.STOP)
            return
        constraint.advance([token])
        chosen = [(token, logprob)]


def choose(logits: torch.Tensor, allowed: torch.Tensor) -> tuple[int, float]:
    """Return the likeliest allowed token and its log-probability among the allowed ones.

    Args:
        logits: float [vocabulary].
        allowed: bool [vocabulary], at least one true.

    Raises:
        InternalError: when the best logit is not finite.
    """
    masked = logits.float().masked_fill(~allowed.to(logits.device), float("-inf"))
    logprobs = torch.log_softmax(masked, dim=-1)
    token = int(torch.argmax(masked))
    logprob = float(logprobs[token])
    if not torch.isfinite(masked[token]):
        raise InternalError("the model's logits are not finite")
    return token, min(logprob, 0.0)


def _finish(constraint: TokenConstraint, written: int, max_tokens: int) -> FinishReason | None:
    if constraint.is_complete:
        return FinishReason.STOP
    return FinishReason.LENGTH if written >= max_tokens else None


def _feed(context: Context, tokens: list[int], batch_forced: bool) -> torch.Tensor:
    if batch_forced or len(tokens) <= 1:
        return context.feed(tokens)
    for token in tokens[:-1]:
        context.feed([token])
    return context.feed(tokens[-1:])
