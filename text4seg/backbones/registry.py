"""The registry: one entry per family, and nothing else to touch when one is added."""

from __future__ import annotations

from text4seg.backbones.paper import PAPER
from text4seg.backbones.profile import Backbone, Family
from text4seg.backbones.successors import SUCCESSORS

FAMILIES: tuple[Family, ...] = (*PAPER, *SUCCESSORS)
"""The paper's systems, then those that came after."""


def find_backbone(name: str) -> tuple[Family, Backbone] | None:
    """Return the profile with this name, and its family."""
    for family in FAMILIES:
        for backbone in family.backbones:
            if backbone.name == name:
                return family, backbone
    return None


def foreign_family(model_type: str) -> Family | None:
    """Return the family that has this model type in a format that transformers does not read."""
    return next((family for family in FAMILIES if model_type in family.foreign_types), None)
