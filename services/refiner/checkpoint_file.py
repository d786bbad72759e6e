"""What every model with a checkpoint checks before it loads the file, and how it names the weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from text4seg.errors import CheckpointError


def check_start(checkpoint: Path, device: str) -> None:
    """Find out that a model cannot be loaded before its weights are read.

    Raises:
        CheckpointError: there is no such file, or torch cannot use the device.
    """
    if not checkpoint.is_file():
        raise CheckpointError(str(checkpoint), "there is no such file")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a build of torch without CUDA
        raise CheckpointError(str(checkpoint), f"torch device {device!r} cannot be used") from error


def digest_of(checkpoint: Path) -> str:
    """Return twelve digits that identify the content of a file."""
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
