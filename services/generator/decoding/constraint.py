"""A grammar as a mask over tokens, by llguidance (https://github.com/guidance-ai/llguidance).

llguidance never raises on a bad grammar or a refused token: it goes into an error state and stays there.
Every call here checks for that state and raises :class:`~text4seg.errors.InternalError` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.hf import from_tokenizer
from numpy.typing import NDArray

from text4seg.errors import InternalError
from text4seg.labels import SEG_CLOSE, SEG_OPEN

_CACHED_GRAMMARS = 64


class TokenVocabulary:
    """A Hugging Face tokenizer as llguidance sees it: the bytes of every token, and what ends an answer.

    Args:
        tokenizer: a fast tokenizer (``PreTrainedTokenizerFast``).
        size: number of logits of the model, which may be more than the tokenizer has tokens.
        end_tokens: ids of the tokens that end an answer; at least one.

    Raises:
        ValueError: when the tokenizer is not a fast one, or is of a kind that llguidance cannot read.
    """

    def __init__(self, tokenizer: Any, size: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer = _readable(tokenizer, size, list(end_tokens))
        self._matchers: dict[str, LLMatcher] = {}
        self.size = size
        self.end_tokens = frozenset(end_tokens)

    def token_bytes(self, token: int) -> bytes:
        """Return the UTF-8 bytes that a token stands for; they may be part of a character."""
        return self._tokenizer.decode_bytes([token])

    def constraint(self, lark: str) -> TokenConstraint:
        """Return a fresh constraint for a grammar in llguidance's Lark syntax.

        Raises:
            InternalError: when the grammar does not compile.
        """
        matcher = self._matchers.get(lark)
        if matcher is None:
            matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
            if matcher.is_error():
                raise InternalError(f"the grammar does not compile: {_first_line(matcher)}")
            if len(self._matchers) >= _CACHED_GRAMMARS:
                self._matchers.pop(next(iter(self._matchers)))
            self._matchers[lark] = matcher
        return TokenConstraint(matcher.deep_copy(), self.size, self.end_tokens)


class _SpelledTags:
    """A tokenizer whose tags are text.

    llguidance takes every token that looks like ``<seg>`` for a control token, which no text can spell; some
    checkpoints have the tags in their vocabulary.
    """

    def __init__(self, tokenizer: Any, read: LLTokenizer, size: int) -> None:
        tags = (SEG_OPEN.encode(), SEG_CLOSE.encode())
        self.eos_token_id = read.eos_token
        self.bos_token_id = tokenizer.bos_token_id
        self.tokens = [read.decode_bytes([token]) for token in range(size)]
        self.special_token_ids = [
            token for token in range(size) if read.is_special_token(token) and self.tokens[token] not in tags
        ]
        self._backend = tokenizer.backend_tokenizer

    def __call__(self, text: bytes) -> list[int]:
        tokens: list[int] = self._backend.encode(text.decode(), add_special_tokens=False).ids
        return tokens


def _readable(tokenizer: Any, size: int, end_tokens: list[int]) -> LLTokenizer:
    read = from_tokenizer(tokenizer, n_vocab=size, eos_token=end_tokens)
    tags = [tag for tag in map(tokenizer.get_vocab().get, (SEG_OPEN, SEG_CLOSE)) if tag is not None]
    if not any(map(read.is_special_token, tags)):
        return read
    spelled = TokenizerWrapper(_SpelledTags(tokenizer, read, size))
    return LLTokenizer(spelled, n_vocab=size, eos_token=end_tokens)


class TokenConstraint:
    """The state of one answer in its grammar."""

    def __init__(self, matcher: LLMatcher, size: int, end_tokens: frozenset[int]) -> None:
        self._matcher = matcher
        self._size = size
        self._end_tokens = end_tokens

    @property
    def is_complete(self) -> bool:
        """Whether the grammar allows nothing more; the model need not be asked for its end token."""
        return self._matcher.is_stopped()

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next: bool [vocabulary], with the end tokens where the text may end.

        Raises:
            InternalError: when the grammar allows no token at all.
        """
        words = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        mask = np.zeros(self._size, dtype=np.bool_)
        bits = np.unpackbits(words, bitorder="little")[: self._size]
        mask[: bits.size] = bits
        if not mask.any():
            raise InternalError("the grammar allows no token")
        return mask

    def advance_forced(self, limit: int) -> list[int]:
        """Take the tokens that leave no choice, at most ``limit``, and return them.

        These are llguidance's fast-forward tokens, and tokens that are alone in the mask. An end token is
        never taken: a text that can only end is complete.
        """
        taken: list[int] = []
        while len(taken) < limit and not self.is_complete:
            run = self._matcher.compute_ff_tokens()[: limit - len(taken)]
            self._check()
            if not run:
                choices = np.flatnonzero(self.allowed())
                if choices.size > 1 or int(choices[0]) in self._end_tokens:
                    break
                run = [int(choices[0])]
            self.advance(run)
            taken.extend(run)
        return taken

    def advance(self, tokens: Sequence[int]) -> None:
        """Take tokens.

        Raises:
            InternalError: when the grammar refuses one of them.
        """
        self._matcher.consume_tokens(list(tokens))
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InternalError(f"the grammar refused a token: {_first_line(self._matcher)}")


def _first_line(matcher: LLMatcher) -> str:
    return matcher.get_error().partition("\n")[0]
