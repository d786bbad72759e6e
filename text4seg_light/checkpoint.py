"""The light refiner in one safetensors file: the weights, and the sizes in its metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from text4seg_light.model import LightConfig, LightRefiner

_ENTRY = "text4seg"
"""Of the metadata."""
_FORMAT = "light-1"
"""Changes with anything in the code that gives the same weights another meaning."""


def save(model: LightRefiner, file: Path) -> None:
    """Write all weights, the encoder's too; matrices in half precision, which halves the file."""
    weights = {
        name: (value.half() if value.ndim > 1 else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    partial = file.with_suffix(".partial")
    # One entry: several come out in any order, and equal weights would not make equal files.
    entry = json.dumps({"format": _FORMAT, "config": asdict(model.config)})
    partial.write_bytes(to_bytes(weights, {_ENTRY: entry}))
    partial.replace(file)


def load(file: Path) -> LightRefiner:
    """Read a refiner in single precision, in evaluation mode.

    Raises:
        ValueError: the file is missing, damaged or something else; the message says which, without the path.
    """
    if not file.is_file():
        raise ValueError("there is no such file")
    try:
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata() or {}
            weights = {name: content.get_tensor(name).float() for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError("this is not a safetensors file, or it is damaged") from error
    try:
        entry = json.loads(metadata[_ENTRY])
        if entry["format"] != _FORMAT:
            raise ValueError(f"its format is {entry['format']!r}, not {_FORMAT!r}")
        model = LightRefiner(LightConfig(**entry["config"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"this is not a light refiner: {_one_line(error)}") from error
    own = model.state_dict()
    try:
        # Counters of batches are whole numbers; nothing reads them.
        model.load_state_dict({name: value.to(own[name].dtype) for name, value in weights.items()})
    except (KeyError, RuntimeError) as error:
        raise ValueError("its weights are not those of a light refiner of the sizes it names") from error
    return model.eval().requires_grad_(False)


def _one_line(error: Exception) -> str:
    missing = f"no entry {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(missing.split())
