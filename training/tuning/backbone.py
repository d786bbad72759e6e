"""The model that is fine-tuned: loaded from a directory, asked as it will be when served, with adapters."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL.Image import Resampling
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, AutoProcessor

import text4seg_nano  # noqa: F401 - registers the bundled model's classes with transformers
from text4seg.backbones import Backbone, Family, PromptForm, find_backbone, foreign_family
from text4seg.backbones.tiles import keep_one_tile, processor_size, resampling
from text4seg.dialogue import SEG_CLOSE, SEG_OPEN
from text4seg.errors import CheckpointError
from text4seg.segmentation import Turn
from training.tuning.recipe import Recipe, TuningError

NANO = "text4seg_nano"
"""Model type of the bundled model, which reads everything before its last answer in both directions."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LONGEST_REASON = 240


@dataclass(frozen=True, slots=True)
class Base:
    """What a base checkpoint says, with its processor; no weights.

    Attributes:
        path: its directory.
        model_type: as transformers calls it.
        backbone: name of its profile; None: it is asked with its own chat template.
        targets: regular expression for the layers that get adapters; may be empty.
        prompt: how conversations are written; None: as the chat template says.
        processor: of transformers, kept to one tile.
        image_size: (height, width) in pixels that images are squashed to; None: the processor takes any size.
        resample: PIL's filter for that.
        control_tokens: texts that mean something to the model.
    """

    path: Path
    model_type: str
    backbone: str | None
    targets: str
    prompt: PromptForm | None
    processor: Any
    image_size: tuple[int, int] | None
    resample: Resampling
    control_tokens: tuple[str, ...]

    def opened(self, turns: Sequence[Turn]) -> str:
        """Write a conversation that ends with a question, up to where the answer begins."""
        if self.prompt is not None:
            return self.prompt.render(turns)
        return self._template(turns, True)

    def closed(self, turns: Sequence[Turn]) -> str:
        """Write a conversation that ends with an answer."""
        if self.prompt is not None:
            return self.prompt.render(turns).removesuffix(self.prompt.reply)
        return self._template(turns, False)

    def _template(self, turns: Sequence[Turn], add_generation_prompt: bool) -> str:
        messages: list[dict[str, Any]] = [
            {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns
        ]
        messages[0]["content"].insert(0, {"type": "image"})
        written = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return str(written)


def load_base(path: Path, recipe: Recipe) -> Base:
    """Read what a base checkpoint is and load its processor, from local files only.

    Raises:
        CheckpointError: when it is missing, damaged, unknown, or not of the recipe's backbone.
        TuningError: when the recipe cannot be followed with it.
    """
    config = read_config(path)
    entry = config.get("text4seg") if isinstance(config.get("text4seg"), dict) else {}
    model_type = str(config.get("model_type"))
    named = recipe.backbone or (entry or {}).get("backbone")
    found = None if named is None else _profile(path, str(named), model_type)
    if model_type not in CONFIG_MAPPING:
        foreign = foreign_family(model_type)
        told = "" if foreign is None else f", a format of {foreign.name} (see docs/backbones.md)"
        raise CheckpointError(str(path), f"transformers does not know model type {model_type!r}{told}")
    if model_type == NANO and recipe.answers == "together":
        raise TuningError('the bundled model sees all before its last answer: set answers = "apart"')
    if model_type == NANO and recipe.grid != (config["grid"], config["grid"]):
        raise TuningError(f"the bundled model writes a grid of {config['grid']}, not {list(recipe.grid)}")
    try:
        load: Any = AutoProcessor.from_pretrained
        processor = load(path, local_files_only=True, trust_remote_code=False)
        image_processor = getattr(processor, "image_processor", None)
        tokenizer = processor.tokenizer
    except Exception as error:
        raise CheckpointError(str(path), f"cannot load the processor: {one_line(error)}") from error
    if found is None and getattr(processor, "chat_template", None) is None:
        raise CheckpointError(str(path), "has no chat template, and the recipe names no backbone")
    side = None if found is None else found[1].image_side
    own = (entry or {}).get("image_size")
    image_size = recipe.image_size or (None if own is None else (int(own[0]), int(own[1])))
    image_size = image_size or ((side, side) if side else processor_size(image_processor))
    keep_one_tile(image_processor, image_size)
    return Base(
        path=path,
        model_type=model_type,
        backbone=None if found is None else found[1].name,
        targets=recipe.targets or (found[0].lora_targets if found else ""),
        prompt=found[0].prompt if found else None,
        processor=processor,
        image_size=image_size,
        resample=Resampling(resampling(image_processor)),
        control_tokens=_control_tokens(processor, tokenizer),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a checkpoint's ``config.json``.

    Raises:
        CheckpointError: when it is missing or damaged.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(str(path), "has no config.json; nothing is downloaded") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(str(path), f"config.json is damaged: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(str(path), "config.json is not a JSON object")
    return config


def load_model(path: Path, dtype: torch.dtype | str) -> Any:
    """Load a base model's weights from local files.

    Args:
        path: its directory.
        dtype: of the weights; ``"auto"``: as stored.

    Raises:
        CheckpointError: when weights are missing or damaged.
    """
    load: Any = AutoModelForImageTextToText.from_pretrained
    try:
        model, report = load(
            path, local_files_only=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
        )
    except Exception as error:
        raise CheckpointError(str(path), f"cannot load the model: {one_line(error)}") from error
    missing = [str(name) for name in (*report["missing_keys"], *report["mismatched_keys"])]
    if missing:
        raise CheckpointError(str(path), f"lacks {len(missing)} weights, for example {min(missing)}")
    return model


def adapt(model: Any, base: Base, recipe: Recipe) -> PeftModel:
    """Freeze a model and put LoRA adapters on the recipe's layers; drawn from torch's generator.

    Raises:
        TuningError: when the recipe names no layer, or one that takes no adapter.
    """
    if not base.targets:
        raise TuningError("the recipe names no layers for adapters: set targets, or a backbone")
    if not any(re.fullmatch(base.targets, name) for name, _ in model.named_modules()):
        raise TuningError(f"the model has no layer that targets = {base.targets!r} names")
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=base.targets,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks for a property that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            adapted: PeftModel = get_peft_model(model, config)
        except ValueError as error:
            raise TuningError(f"targets = {base.targets!r}: {one_line(error)}") from error
    return adapted


def one_line(error: Exception) -> str:
    """Return what an exception says, shortened to one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _profile(path: Path, name: str, model_type: str) -> tuple[Family, Backbone]:
    found = find_backbone(name)
    if found is None:
        raise TuningError(f"no backbone is called {name!r}; `text4seg models` lists them")
    family, _ = found
    if not family.model_types:
        raise TuningError(f"backbone {name!r} cannot be fine-tuned here: {family.note}")
    if model_type not in (*family.model_types, *family.foreign_types):
        raise CheckpointError(
            str(path), f"backbone {name!r} is {family.name}, and the model is of type {model_type!r}"
        )
    return found


def _control_tokens(processor: Any, tokenizer: Any) -> tuple[str, ...]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    image_token = getattr(processor, "image_token", None)
    tokens = {*tokenizer.all_special_tokens, *added, *([image_token] if isinstance(image_token, str) else [])}
    return tuple(sorted(tokens - {SEG_OPEN, SEG_CLOSE, ""}))
