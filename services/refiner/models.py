"""Which models run: settings in, mask models out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.refiner.identity_model import IdentityModel
from services.refiner.refine import MaskModel
from services.refiner.settings import BUNDLED_LIGHT, ModelKind, RefinerSettings
from text4seg.errors import CheckpointError


def load_models(settings: RefinerSettings) -> dict[str, MaskModel]:
    """Load what the settings ask for: models by name, the default first.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unknown, or a second one of its kind.
    """
    # Imported where they are used: only what was chosen has to be installed, and torch takes seconds.
    if settings.threads and {"sam", "light"} & set(settings.kinds):
        import torch

        torch.set_num_threads(settings.threads)
    models: dict[str, MaskModel] = {}
    for kind in settings.kinds:
        for checkpoint, model in _load(kind, settings):
            if model.name in models:
                raise CheckpointError(str(checkpoint), f"another file holds a {model.name} already")
            models[model.name] = model
    return models


def _load(kind: ModelKind, settings: RefinerSettings) -> Iterator[tuple[Path | None, MaskModel]]:
    """Yield the models of a kind, each with its checkpoint."""
    if kind == "sam":
        from services.refiner.sam_model import MaskPrompt, load_sam

        prompt = MaskPrompt(settings.sam_mask_prompt)
        for checkpoint in settings.sam_checkpoints:
            yield checkpoint, load_sam(checkpoint, settings.device, prompt, settings.sam_batch)
    elif kind == "light":
        if settings.light_checkpoint == BUNDLED_LIGHT and not BUNDLED_LIGHT.exists():
            raise CheckpointError(
                str(BUNDLED_LIGHT),
                "the light refiner's weights come with a clone of the repository, not with an installed "
                "package; set T4S_REFINER_LIGHT_CHECKPOINT to its file models/light/model.safetensors, or "
                "T4S_REFINER_MODEL=grabcut, which has no weights",
            )
        from services.refiner.light_model import load_light

        yield settings.light_checkpoint, load_light(settings.light_checkpoint, settings.device)
    elif kind == "grabcut":
        from services.refiner.grabcut_model import GrabCutModel

        yield None, GrabCutModel()
    elif kind == "identity":
        yield None, IdentityModel()
