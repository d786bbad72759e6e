"""Settings that every service has; each service's ``settings.py`` subclasses ``ServerSettings``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port`` (or ``[ipv6]:port``) into its parts.

    Raises:
        ValueError: the text has no host, or no port between 0 and 65535.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def _checked_address(address: str) -> str:
    if address:
        split_address(address)
    return address


def _checked_endpoint(endpoint: str) -> str:
    if endpoint:
        scheme, separator, address = endpoint.partition("://")
        if not separator or scheme not in ("http", "https"):
            raise ValueError(f"{endpoint!r} is not http://host:port or https://host:port")
        split_address(address.rstrip("/"))
    return endpoint


Address = Annotated[str, AfterValidator(_checked_address)]


class ServerSettings(BaseSettings):
    """What it takes to serve: where, how large, how many, and who may call.

    A subclass sets ``model_config = SettingsConfigDict(env_prefix="T4S_<SERVICE>_")`` and its own defaults.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_prefix="T4S_", cli_kebab_case=True, use_attribute_docstrings=True
    )

    address: Annotated[Address, Field(min_length=1)] = "127.0.0.1:0"
    """Where to listen, ``host:port``; port 0 takes any free port."""
    health_address: Address = ""
    """A second, plaintext port that serves only grpc.health.v1, for probes that speak no TLS. Empty: none."""
    metrics_address: Address = ""
    """Where metrics are served for Prometheus, over plain HTTP: ``host:port``; port 0 takes any free port.
    Empty: nowhere."""
    otlp_endpoint: Annotated[str, AfterValidator(_checked_endpoint)] = ""
    """Where traces are sent, as OTLP over gRPC: ``http://host:port``, or ``https://host:port`` for TLS.
    Empty: nothing is traced."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the traces that are recorded. A caller that has begun a trace has decided already."""
    tls_certificate: Path | None = None
    """PEM certificate chain. With ``tls_key`` the port speaks TLS; files are read again when they change."""
    tls_key: Path | None = None
    """PEM private key that belongs to ``tls_certificate``."""
    tls_client_ca: Path | None = None
    """PEM authorities; when set, callers must present a certificate signed by one of them (mTLS)."""
    api_keys: SecretStr = SecretStr("")
    """Keys that callers may present, separated by commas. Empty: anybody may call."""
    max_message_bytes: Annotated[int, Field(ge=1024)] = 32 * MEBIBYTE
    """Largest message taken or sent, in bytes."""
    drain_s: Annotated[float, Field(ge=0)] = 20.0
    """Seconds that calls in flight get to finish after SIGTERM."""
    concurrency: Annotated[int, Field(ge=1)] = 1
    """Calls that work at the same time."""
    queue: Annotated[int, Field(ge=0)] = 16
    """Calls that may wait for their turn; more are refused as overloaded."""
    keepalive_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of silence after which a connection is pinged."""
    connection_age_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after which callers are asked to connect anew, so that they find new replicas; calls in flight
    are not disturbed. 0: never."""
    reflection: bool = True
    """Whether callers may list the services and their messages."""
    channelz: bool = True
    """Whether callers may read connection statistics."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe records that are logged."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be set together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    def accepted_keys(self) -> tuple[str, ...]:
        """Return the API keys; empty when anybody may call."""
        return tuple(key for part in self.api_keys.get_secret_value().split(",") if (key := part.strip()))
