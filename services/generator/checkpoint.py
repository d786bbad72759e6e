"""What a checkpoint directory says about itself, before any weight is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text4seg.descriptors import Codec
from text4seg.errors import CheckpointError
from text4seg.scores import Calibration

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
    """The entry ``text4seg`` of a checkpoint's ``config.json``.

    Attributes:
        model: name of the model.
        model_type: architecture, as transformers calls it.
        shape: (rows, columns) of the descriptor grid that the model was trained for.
        codec: how it writes descriptors.
        template_version: version of the question and answer templates that it was trained with.
        image_size: (height, width) that images are squashed to; None: the image processor's own size.
        calibration: of its confidence; the identity when the checkpoint has none.
    """

    model: str
    model_type: str
    shape: tuple[int, int]
    codec: Codec
    template_version: str
    image_size: tuple[int, int] | None
    calibration: Calibration


def read_facts(path: Path) -> CheckpointFacts:
    """Read ``config.json`` of a checkpoint directory, after a look whether the other files are there.

    Raises:
        CheckpointError: when the directory or a file is missing or damaged, or the entry ``text4seg`` is
            missing or malformed. The grid is never guessed.
    """
    if not path.is_dir():
        raise CheckpointError(str(path), "is not a directory")
    config = _read_json(path, "config.json")
    entry = config.get("text4seg")
    if not isinstance(entry, dict):
        raise CheckpointError(
            str(path),
            'config.json has no entry "text4seg" with the model\'s grid, codec and template_version',
        )
    for part, patterns in _PARTS.items():
        if not any(any(path.glob(pattern)) for pattern in patterns):
            raise CheckpointError(str(path), f"has no {part} ({patterns[0]})")
    try:
        calibration = entry.get("calibration") or {}
        image_size = entry.get("image_size")
        return CheckpointFacts(
            model=str(entry.get("model") or path.resolve().name),
            model_type=str(config["model_type"]),
            shape=_pair(entry["grid"], "grid", _LARGEST_GRID),
            codec=Codec(entry["codec"]),
            template_version=str(entry["template_version"]),
            image_size=None if image_size is None else _pair(image_size, "image_size", 1 << 14),
            calibration=Calibration(
                temperature=float(calibration.get("temperature", 1.0)),
                bias=float(calibration.get("bias", 0.0)),
            ),
        )
    except KeyError as error:
        raise CheckpointError(str(path), f"config.json lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(str(path), f"config.json: entry text4seg: {error}") from error


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


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(str(path), f"has no {name}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(str(path), f"{name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(str(path), f"{name} is not a JSON object")
    return content


def _pair(value: object, name: str, largest: int) -> tuple[int, int]:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int) and 1 <= side <= largest for side in value)
    ):
        return value[0], value[1]
    raise ValueError(f"{name} must be two whole numbers from 1 to {largest}, not {value!r}")
