"""Everything about the generator that its operator may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.chassis.settings import Address, ServerSettings
from services.generator.quantization import Quantization
from services.generator.scripted_model import Script
from text4seg.segmentation import Limits

BUNDLED_CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "nano"


class GeneratorSettings(ServerSettings):
    """Read from ``T4S_GENERATOR_*`` and, before it, from the command line."""

    model_config = SettingsConfigDict(env_prefix="T4S_GENERATOR_")

    address: Annotated[Address, Field(min_length=1)] = "127.0.0.1:50052"
    """Where to listen, ``host:port``; port 0 takes any free port."""
    engine: Literal["hf", "triton", "scripted"] = "hf"
    """What runs the model: ``hf`` (transformers in this process), ``triton`` (a Triton server), or
    ``scripted`` (a fake, for tests only)."""
    checkpoint: Path = BUNDLED_CHECKPOINT
    """Directory of a transformers image-text-to-text checkpoint with an entry ``text4seg`` in config.json, or
    of a LoRA adapter that names its model's directory."""
    adapter: Path | None = None
    """Directory of a LoRA adapter (PEFT) for the checkpoint."""
    device: str = "cpu"
    """Torch device, for example ``cpu`` or ``cuda:0``."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Floating-point type of the weights; ``auto`` takes them as they are stored."""
    quantization: Quantization = Quantization.NONE
    """How the language model's linear layers are held: as they are, with 8 bits or with 4 (bitsandbytes)."""
    threads: Annotated[int, Field(ge=0)] = 1
    """Threads of torch. 0 leaves torch's own choice, which can slow down a small model on a busy machine."""
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Most tokens of one answer."""
    image_cache: Annotated[int, Field(ge=0)] = 16
    """Encoded images that are kept for the next question about them."""
    max_image_bytes: Annotated[int, Field(ge=1)] = 24 * 1024 * 1024
    """Largest image file, in bytes."""
    max_image_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Largest image, height times width."""
    triton_url: Annotated[Address, Field(min_length=1)] = "127.0.0.1:8001"
    """gRPC endpoint of Triton, ``host:port``."""
    triton_model: Annotated[str, Field(min_length=1)] = "text4seg"
    """The model's name in Triton's repository."""
    triton_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that one answer of Triton may take, however much time its caller has."""
    triton_refresh_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds after which Triton is asked anew what it runs."""
    script: Script = Script.BOX
    """What the fake answers: a rectangle per label, or that nothing is there."""
    script_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Pause of the fake before each chunk, in seconds."""

    def request_limits(self) -> Limits:
        """Return what one request may hold.

        Conversations are the orchestrator's to limit: these only bound what one request can cost.
        """
        return Limits(
            image_bytes=self.max_image_bytes,
            image_pixels=self.max_image_pixels,
            phrases=1024,
            turns=1024,
            conversation_characters=1 << 20,
        )
