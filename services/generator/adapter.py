"""Where a checkpoint's parts are: a model with all its weights, and perhaps a LoRA adapter for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text4seg.errors import CheckpointError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_ENTRY = "text4seg.json"
"""What an adapter says about itself: the entry ``text4seg``, as PEFT's own file takes no keys but PEFT's."""

_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, slots=True)
class CheckpointParts:
    """The directories of a checkpoint.

    Attributes:
        base: a model as transformers writes it, merged or to be adapted.
        adapter: a LoRA adapter as PEFT writes it; None: the base is all there is.
    """

    base: Path
    adapter: Path | None


def find_parts(checkpoint: Path, adapter: Path | None = None) -> CheckpointParts:
    """Tell apart what a directory holds.

    Args:
        checkpoint: a model's directory; or an adapter's, which names its model's in
            ``base_model_name_or_path`` (from the working directory, or else from its own).
        adapter: an adapter's directory, with ``checkpoint`` a model's.

    Raises:
        CheckpointError: when a directory or a file of the adapter is missing, it is no LoRA, its model is not
            here, or one directory holds both.
    """
    for directory in (checkpoint, *([] if adapter is None else [adapter])):
        if not directory.is_dir():
            raise CheckpointError(str(directory), "is not a directory")
    adapted = (checkpoint / ADAPTER_CONFIG).exists()
    if adapted and (adapter is not None or (checkpoint / "config.json").exists()):
        raise CheckpointError(
            str(checkpoint),
            "holds an adapter as well as a model; give each a directory of its own, and name them with "
            "T4S_GENERATOR_CHECKPOINT (the model) and T4S_GENERATOR_ADAPTER",
        )
    if not adapted:
        if adapter is not None:
            _check_adapter(adapter)
        return CheckpointParts(base=checkpoint, adapter=adapter)
    named = _check_adapter(checkpoint).get("base_model_name_or_path")
    for base in (Path(str(named)), checkpoint / str(named)):
        if named and (base / "config.json").exists():
            return CheckpointParts(base=base, adapter=checkpoint)
    raise CheckpointError(
        str(checkpoint),
        f"is an adapter for {named!r}, which is no directory here; set T4S_GENERATOR_CHECKPOINT to the "
        "directory of that model, and T4S_GENERATOR_ADAPTER to this one",
    )


def adapter_entry(adapter: Path) -> dict[str, Any] | None:
    """Return an adapter's entry ``text4seg``; None when it has none and its base model's holds.

    Raises:
        CheckpointError: when the file is damaged.
    """
    return read_object(adapter, ADAPTER_ENTRY) if (adapter / ADAPTER_ENTRY).exists() else None


def adapter_base_name(adapter: Path) -> str:
    """Return what an adapter calls the model that it was made for; may be empty.

    Raises:
        CheckpointError: when its configuration is missing or damaged.
    """
    return str(read_object(adapter, ADAPTER_CONFIG).get("base_model_name_or_path") or "")


def read_object(directory: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        CheckpointError: when it is missing, damaged or something else.
    """
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(str(directory), f"has no {name}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(str(directory), f"{name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(str(directory), f"{name} is not a JSON object")
    return content


def _check_adapter(adapter: Path) -> dict[str, Any]:
    config = read_object(adapter, ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(str(adapter), f"is an adapter of kind {config.get('peft_type')!r}, not LORA")
    if not any((adapter / name).is_file() for name in _ADAPTER_WEIGHTS):
        raise CheckpointError(str(adapter), f"has no {_ADAPTER_WEIGHTS[0]}")
    return config
