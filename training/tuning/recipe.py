"""The recipe of a run: what is set in a TOML file, with table 7 of the paper for defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from text4seg.descriptors import Codec

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
"""The recipes that come with the code."""

MAY_CHANGE = frozenset({"per_device", "gradient_checkpointing", "log_every", "keep_every"})
"""What another run in the same folder may have otherwise: it does not change what is learned."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]


class TuningError(Exception):
    """What prevents a run; the message is one line."""


class Recipe(BaseModel):
    """Everything that decides what is learned from given data.

    Defaults from ``rank`` to ``global_batch`` are table 7 of the paper (Lan et al., arXiv 2410.09855).

    Attributes:
        backbone: profile of :mod:`text4seg.backbones`; None: the one that the base checkpoint names, or else
            its chat template.
        grid: (rows, columns) of the descriptors in the data.
        codec: how they are written.
        image_size: (height, width) in pixels that images are squashed to; None: the profile's, or else the
            image processor's.
        targets: regular expression for the whole names of the layers that get an adapter; empty: the
            profile's.
        rank: of the adapters (LoRA).
        alpha: their scale is ``alpha / rank``.
        dropout: on what goes into them.
        learning_rate: the highest; it falls linearly to zero.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        warm_up: share of the steps in which the learning rate rises.
        global_batch: examples per step, on all devices together.
        epochs: passes over the data.
        steps: in place of ``epochs`` when not 0.
        per_device: examples that one device takes at a time.
        precision: of weights and arithmetic; adapters are always float32.
        gradient_checkpointing: whether activations are computed twice instead of kept.
        max_tokens: longest example, with image and answer; what is beyond is cut off.
        answers: ``together``: a conversation with several answers is one example; ``apart``: each answer is
            an example, with what came before it for context.
        log_every: steps between two points of the loss curve.
        keep_every: steps between two states that an interrupted run can go on from.
        seed: draws adapters, order and dropout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str | None = None
    grid: tuple[Positive, Positive] = (16, 16)
    codec: Codec = Codec.RRLE
    image_size: tuple[Side, Side] | None = None
    targets: str = ""
    rank: Positive = 64
    alpha: Positive = 128
    dropout: Share = 0.05
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    warm_up: Share = 0.03
    global_batch: Positive = 128
    epochs: Annotated[float, Field(gt=0.0)] = 1.0
    steps: Annotated[int, Field(ge=0)] = 0
    per_device: Positive = 4
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = True
    max_tokens: Positive = 2048
    answers: Literal["together", "apart"] = "together"
    log_every: Positive = 10
    keep_every: Positive = 200
    seed: Annotated[int, Field(ge=0)] = 0

    def differences(self, other: Recipe) -> tuple[str, ...]:
        """Return the keys in which two recipes differ, of those that change what is learned."""
        keys = (key for key in type(self).model_fields if key not in MAY_CHANGE)
        return tuple(key for key in keys if getattr(self, key) != getattr(other, key))


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of a recipe that comes with the code, or the path of a TOML file.
        changes: ``key = value`` as in the file, which count instead of it.

    Raises:
        TuningError: when there is no such recipe, it is no TOML, a key is unknown or a value impossible.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TuningError(f"no recipe {name}; there are {', '.join(recipe_names())}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TuningError(f"recipe {path}: {error}") from error
    for change in changes:
        try:
            values |= tomllib.loads(change)
        except tomllib.TOMLDecodeError as error:
            raise TuningError(f"--set {change}: {error}; write key=value as in a recipe") from error
    return check_recipe(values, f"recipe {name}")


def check_recipe(values: dict[str, Any], source: str) -> Recipe:
    """Make a recipe of values.

    Raises:
        TuningError: when a key is unknown or a value impossible; the message begins with ``source``.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise TuningError(
                f"{source}: unknown key {key!r}; there are {', '.join(Recipe.model_fields)}"
            ) from error
        raise TuningError(f"{source}: {key}: {first['msg']}, not {first['input']!r}") from error


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the code."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))
