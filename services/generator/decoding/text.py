"""From tokens to text: whole characters only, with the exact place of every token."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from text4seg.scores import TokenLogprob


class TextAssembler:
    """Joins the bytes of tokens to text that never splits a character.

    A token's span holds the characters that it completes, so that the spans of all tokens cover the text
    without gap or overlap; a token that ends inside a character completes it not, and may have an empty span.
    Bytes that are no UTF-8 become U+FFFD. An incomplete character at the very end is dropped.

    Args:
        token_bytes: the bytes of a token.
        lead: characters that the model puts before every answer and that are no part of it (the space after
            ``ASSISTANT:``, say); hidden when they come first.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], lead: str = "") -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lead = lead
        self._length = 0

    def add(self, token: int, logprob: float) -> tuple[str, TokenLogprob]:
        """Add one token; return the characters that it completes, and its span in the whole text."""
        piece = self._decoder.decode(self._token_bytes(token))
        while piece and self._lead:
            if piece[0] != self._lead[0]:
                self._lead = ""
                break
            piece, self._lead = piece[1:], self._lead[1:]
        begin = self._length
        self._length += len(piece)
        return piece, TokenLogprob(begin=begin, end=self._length, logprob=logprob)
