"""Everything about the refiner that its operator may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.chassis.settings import MEBIBYTE, Address, ServerSettings

ModelKind = Literal["light", "grabcut", "sam", "triton", "identity"]
BUNDLED_LIGHT = Path(__file__).resolve().parents[2] / "models" / "light" / "model.safetensors"


def _split(value: object) -> object:
    """Take ``a,b`` apart, as it comes from the environment and the command line."""
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        return [name for part in parts for piece in part.split(",") if (name := piece.strip())]
    return value


class RefinerSettings(ServerSettings):
    """Read from ``T4S_REFINER_*`` and, before it, from the command line."""

    model_config = SettingsConfigDict(env_prefix="T4S_REFINER_")

    address: Annotated[Address, Field(min_length=1)] = "127.0.0.1:50053"
    """Where to listen, ``host:port``; port 0 takes any free port."""
    model: ModelKind = "light"
    """The default model: ``light``, ``grabcut`` (no weights), ``sam``, ``triton`` (a Triton server), or
    ``identity`` (a fake, for tests)."""
    extra_models: Annotated[tuple[ModelKind, ...], BeforeValidator(_split)] = ()
    """Further models that callers may ask for by name."""
    sam_checkpoints: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)] = ()
    """Files with the published weights of segment-anything (vit_b, vit_l, vit_h; one of each at most),
    separated by commas. Required for ``sam``; callers choose by name, the first file is the default."""
    sam_batch: Annotated[int, Field(ge=1)] = 8
    """Most masks that go through SAM's mask decoder at once; each takes some 40 MB while it does."""
    light_checkpoint: Path = BUNDLED_LIGHT
    """File that the recipe ``training.refiner`` wrote, for ``light``."""
    sam_mask_prompt: Literal["aligned", "stretched"] = "aligned"
    """How the coarse mask is laid into SAM's prompt: over the object, or stretched to a square."""
    device: str = "cpu"
    """Torch device of ``sam`` and ``light``, for example ``cpu`` or ``cuda:0``."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of torch; they are those of the whole process. 0 leaves them as they are."""
    embedding_cache_bytes: Annotated[int, Field(ge=0)] = 16 * MEBIBYTE
    """Memory for encoded images, kept for the next masks of the same image."""
    triton_url: Annotated[Address, Field(min_length=1)] = "127.0.0.1:8001"
    """gRPC endpoint of Triton, ``host:port``, for ``triton``."""
    triton_model: Annotated[str, Field(min_length=1)] = "sam"
    """The model's name in Triton's repository."""
    triton_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one call of Triton may take."""
    triton_refresh_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds after which Triton is asked anew what it runs."""
    max_image_bytes: Annotated[int, Field(ge=1)] = 24 * MEBIBYTE
    """Largest image file, in bytes."""
    max_image_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Largest image, height times width."""

    @model_validator(mode="after")
    def _check_checkpoints(self) -> Self:
        if "sam" in self.kinds and not self.sam_checkpoints:
            raise ValueError("model sam needs sam_checkpoints")
        return self

    @property
    def kinds(self) -> tuple[ModelKind, ...]:
        """All models to load, each once, the default first."""
        return tuple(dict.fromkeys((self.model, *self.extra_models)))
