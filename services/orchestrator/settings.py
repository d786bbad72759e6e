"""Everything about the orchestrator that its operator may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.chassis.settings import Address, ServerSettings


class OrchestratorSettings(ServerSettings):
    """Read from ``T4S_ORCHESTRATOR_*`` and, before it, from the command line."""

    model_config = SettingsConfigDict(env_prefix="T4S_ORCHESTRATOR_")

    address: Annotated[Address, Field(min_length=1)] = "127.0.0.1:50051"
    """Where to listen, ``host:port``; port 0 takes any free port."""
    generator_address: Annotated[str, Field(min_length=1)] = "127.0.0.1:50052"
    """The generator, as gRPC names targets: ``host:port``, ``dns:///name:port``, ``unix:path``."""
    refiner_address: str = "127.0.0.1:50053"
    """The refiner. Empty: there is none."""
    peer_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that a call to a peer may take, however much time its caller has."""
    peer_concurrency: Annotated[int, Field(ge=1)] = 16
    """Calls of one peer at the same time, all callers together; more wait here, in order of arrival. What is
    beyond the peer's own concurrency and queue is refused as overloaded."""
    peer_refresh_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds after which a peer is asked anew which model it has; a lost connection is noticed at once."""
    peer_api_key: SecretStr = SecretStr("")
    """Presented to the peers with every call. Empty: none."""
    peer_tls_ca: Path | None = None
    """PEM authorities that sign the peers' certificates. None: the peers speak no TLS."""
    peer_tls_certificate: Path | None = None
    """PEM certificate chain to present to the peers (mTLS)."""
    peer_tls_key: Path | None = None
    """PEM private key that belongs to ``peer_tls_certificate``."""
    redis_url: str = ""
    """``redis://``, ``rediss://`` or ``unix://`` address for cached answers and uploaded images. Empty: this
    process's memory, which other orchestrators do not see."""
    redis_budget_s: Annotated[float, Field(gt=0)] = 0.05
    """Seconds after which Redis counts as a miss."""
    redis_image_budget_s: Annotated[float, Field(gt=0)] = 2.0
    """Seconds that Redis gets to take or give an uploaded image."""
    cache_ttl_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds for which an answer is kept. 0 switches the result cache off."""
    cache_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    """Memory for cached answers, in bytes (without Redis)."""
    image_ttl_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds for which an uploaded image is kept."""
    image_store_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Memory for uploaded images, in bytes (without Redis)."""
    upload_bytes: Annotated[int, Field(ge=1)] = 128 * 1024 * 1024
    """Memory for uploads under way, all callers together, in bytes; more are refused as overloaded."""
    max_image_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """Largest image file, in bytes."""
    max_image_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Largest image, height times width."""
    max_phrases: Annotated[int, Field(ge=1)] = 32
    """Phrases or labels in one query."""
    max_phrase_characters: Annotated[int, Field(ge=1, le=256)] = 256
    """Characters of a phrase or label."""
    max_turns: Annotated[int, Field(ge=1)] = 32
    """Turns of a conversation."""
    max_conversation_characters: Annotated[int, Field(ge=1)] = 16384
    """Characters of a conversation."""
    phrase_concurrency: Annotated[int, Field(ge=1)] = 4
    """Phrases of one query that the generator works on at the same time."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Intersection over union with the coarse mask below which a refined mask is dropped in mode AUTO."""
    concurrency: Annotated[int, Field(ge=1)] = 64
    """Calls that work at the same time; most of them wait for a peer."""
    queue: Annotated[int, Field(ge=0)] = 64
    """Calls that may wait for their turn; more are refused as overloaded."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        # 64 KiB for everything in a request besides the image.
        if self.max_image_bytes + 65536 > self.max_message_bytes:
            raise ValueError("max_image_bytes must be 64 KiB below max_message_bytes at least")
        if self.upload_bytes < self.max_image_bytes:
            raise ValueError("upload_bytes must be max_image_bytes at least")
        if (self.peer_tls_certificate is None) != (self.peer_tls_key is None):
            raise ValueError("peer_tls_certificate and peer_tls_key must be set together")
        return self
