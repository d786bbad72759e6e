"""How weights may be held."""

from __future__ import annotations

from enum import StrEnum


class Quantization(StrEnum):
    """How the weights of the language model's linear layers are held, made so while loading by bitsandbytes.

    Image encoder, projector, word embeddings and output layer stay as they are: they are small, and errors
    there would reach every token.
    """

    NONE = "none"
    EIGHT_BIT = "8bit"
    """LLM.int8() (Dettmers et al., 2022, arXiv 2208.07339)."""
    FOUR_BIT = "4bit"
    """NF4 (Dettmers et al., 2023, arXiv 2305.14314)."""
