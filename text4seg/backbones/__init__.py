"""The language models that Text4Seg was published on, their successors, and how to serve each."""

from text4seg.backbones.profile import (
    ALLOWANCE,
    CONTEXT_TOKENS,
    Backbone,
    Engine,
    Family,
    Precision,
    PromptForm,
)
from text4seg.backbones.registry import FAMILIES, find_backbone, foreign_family

__all__ = [
    "ALLOWANCE",
    "CONTEXT_TOKENS",
    "FAMILIES",
    "Backbone",
    "Engine",
    "Family",
    "Precision",
    "PromptForm",
    "find_backbone",
    "foreign_family",
]
