"""What a checkpoint directory says about itself, before any weight is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.generator.adapter import ADAPTER_ENTRY, CheckpointParts, adapter_entry, find_parts, read_object
from text4seg.backbones import PromptForm, find_backbone
from text4seg.descriptors import Codec
from text4seg.errors import CheckpointError
from text4seg.scores import Calibrations

_PARTS = {
    "weights": ("*.safetensors", "*.bin"),
    "tokenizer": ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken"),
    "processor": ("processor_config.json", "preprocessor_config.json"),
}
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_DOCUMENTS = frozenset({".md", ".gitattributes", ".png", ".jpg"})
_WHOLE_FILE_BYTES = 256 << 20
_SAMPLES = 256
_SAMPLE_BYTES = 64 << 10
_LARGEST_GRID = 256


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """The entry ``text4seg`` of a checkpoint: of ``config.json``, or of its adapter's ``text4seg.json``.

    Attributes:
        parts: where model and adapter are.
        model: name of the model.
        model_type: architecture, as transformers calls it.
        shape: (rows, columns) of the descriptor grid that the model was trained for.
        codec: how it writes descriptors.
        template_version: version of the question and answer templates that it was trained with.
        image_size: (height, width) that images are squashed to; None: the image processor's own size.
        calibration: of its confidence; the identity when the checkpoint has none.
        prompt: how its conversations are written; None: as its own chat template says.
    """

    parts: CheckpointParts
    model: str
    model_type: str
    shape: tuple[int, int]
    codec: Codec
    template_version: str
    image_size: tuple[int, int] | None
    calibration: Calibrations
    prompt: PromptForm | None


def read_facts(checkpoint: Path, adapter: Path | None = None) -> CheckpointFacts:
    """Read what a checkpoint says about itself, after a look whether its files are there.

    Args:
        checkpoint: its directory; see :func:`~services.generator.adapter.find_parts`.
        adapter: directory of an adapter for it.

    Raises:
        CheckpointError: when a directory or a file is missing or damaged, the entry ``text4seg`` is missing
            or malformed or names a backbone that is unknown or of another architecture, or when adapter and
            model disagree about the grid. The grid is never guessed.
    """
    parts = find_parts(checkpoint, adapter)
    path = parts.base
    config = read_object(path, "config.json")
    for part, patterns in _PARTS.items():
        if not any(any(path.glob(pattern)) for pattern in patterns):
            raise CheckpointError(str(path), f"has no {part} ({patterns[0]})")
    own = config.get("text4seg")
    adapted = None if parts.adapter is None else adapter_entry(parts.adapter)
    entry = own if adapted is None else adapted
    source, file = (path, "config.json") if adapted is None else (parts.adapter or path, ADAPTER_ENTRY)
    if not isinstance(entry, dict):
        raise CheckpointError(
            str(parts.adapter or path),
            'has no entry "text4seg" with the model\'s grid, codec and template_version in config.json'
            + (f", and no {ADAPTER_ENTRY}" if parts.adapter else ""),
        )
    try:
        facts = _facts(parts, config, entry)
    except KeyError as error:
        raise CheckpointError(str(source), f"{file} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(str(source), f"{file}: entry text4seg: {error}") from error
    if adapted is not None and isinstance(own, dict) and own.get("grid") not in (None, list(facts.shape)):
        raise CheckpointError(
            str(source), f"was trained for a grid of {list(facts.shape)}, its model for {own['grid']}"
        )
    return facts


def _facts(parts: CheckpointParts, config: dict[str, Any], entry: dict[str, Any]) -> CheckpointFacts:
    model_type = str(config["model_type"])
    prompt, image_size = _profile(entry.get("backbone"), model_type)
    if entry.get("image_size") is not None:
        image_size = _pair(entry["image_size"], "image_size", 1 << 14)
    return CheckpointFacts(
        parts=parts,
        model=str(entry.get("model") or (parts.adapter or parts.base).resolve().name),
        model_type=model_type,
        shape=_pair(entry["grid"], "grid", _LARGEST_GRID),
        codec=Codec(entry["codec"]),
        template_version=str(entry["template_version"]),
        image_size=image_size,
        calibration=Calibrations.read(entry.get("calibration") or {}),
        prompt=prompt,
    )


def _profile(name: object, model_type: str) -> tuple[PromptForm | None, tuple[int, int] | None]:
    if name is None:
        return None, None
    found = find_backbone(str(name))
    if found is None:
        raise ValueError(f"no backbone is called {name!r}; `text4seg models` lists them")
    family, backbone = found
    if family.model_types and model_type not in (*family.model_types, *family.foreign_types):
        raise ValueError(f"backbone {name!r} is {family.name}, and the model is of type {model_type!r}")
    return family.prompt, (backbone.image_side, backbone.image_side)


def fingerprint(path: Path, *settings: object) -> str:
    """Return 12 hexadecimal digits that identify weights, preprocessing and settings that change answers.

    The SHA-256 of the names, sizes and contents of all files but documents. Of weight files above 256 MiB,
    256 blocks of 64 KiB spread evenly over the file stand for the contents: training changes nearly every
    weight, and reading tens of gigabytes at every start would cost minutes.

    Args:
        path: the checkpoint directory.
        settings: what else changes answers, for example the dtype.

    Raises:
        CheckpointError: when a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix not in _DOCUMENTS)
        for file in files:
            if file.name.startswith("."):
                continue
            size = file.stat().st_size
            digest.update(f"{file.name}\0{size}\0".encode())
            sampled = file.suffix in _WEIGHTS and size > _WHOLE_FILE_BYTES
            for block in _sampled_blocks(file, size) if sampled else _blocks(file):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(str(path), f"cannot read {error.filename}: {error.strerror}") from error
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:12]


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


def _sampled_blocks(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        for index in range(_SAMPLES):
            stream.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            yield stream.read(_SAMPLE_BYTES)


def _pair(value: object, name: str, largest: int) -> tuple[int, int]:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int) and 1 <= side <= largest for side in value)
    ):
        return value[0], value[1]
    raise ValueError(f"{name} must be two whole numbers from 1 to {largest}, not {value!r}")
