"""How a client reaches a server: address, TLS, credentials and message limits, for both kinds of channel."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc

import text4seg

DEFAULT_ADDRESS = "127.0.0.1:50051"
_MAX_MESSAGE_BYTES = 64 << 20

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", f"text4seg-python/{text4seg.__version__}"),
    # Retries are decided in one place: text4seg_client.retry.
    ("grpc.enable_retries", 0),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Keys and certificates, PEM-encoded.

    Attributes:
        root_certificates: authorities that the server's certificate is checked against; None: the ones that
            come with gRPC.
        certificate_chain: this client's own certificate, for servers that ask for one (mTLS).
        private_key: the key of that certificate.
        server_name: name expected in the server's certificate where it differs from the address.
    """

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse half a client certificate.

        Raises:
            ValueError: a certificate without its key, or the reverse.
        """
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("mTLS needs both the client's certificate and its private key")

    @classmethod
    def from_files(
        cls,
        root_certificates: str | Path | None = None,
        certificate_chain: str | Path | None = None,
        private_key: str | Path | None = None,
        server_name: str | None = None,
    ) -> "Tls":
        """Read the parts from PEM files.

        Raises:
            OSError: a file cannot be read.
            ValueError: a certificate without its key, or the reverse.
        """
        return cls(_read(root_certificates), _read(certificate_chain), _read(private_key), server_name)


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Credentials for a secure channel."""
    return grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)


def channel_options(tls: Tls | None) -> list[tuple[str, str | int]]:
    """Options for a channel, secure or not."""
    name = tls.server_name if tls else None
    return [*CHANNEL_OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]


def call_metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata sent with every call."""
    return () if api_key is None else (("authorization", f"Bearer {api_key}"),)


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
