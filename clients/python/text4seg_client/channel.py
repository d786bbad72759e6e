"""How a client reaches a server: address, TLS, credentials and the connection, for both kinds of channel."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import grpc

import text4seg

DEFAULT_ADDRESS = "127.0.0.1:50051"
# gRPC's schemes for targets that are no hosts, or whose ports are looked up.
_WITHOUT_PORT = ("unix", "xds:", "vsock:")

LoadBalancing: TypeAlias = Literal["pick_first", "round_robin"]
ChannelOption: TypeAlias = tuple[str, str | int]


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

    root_certificates: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = field(default=None, repr=False)
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

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials for a secure channel."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)


@dataclass(frozen=True, slots=True)
class Connection:
    """How a client keeps in touch with a server, or with the replicas behind one name.

    An address such as ``dns:///text4seg.example:50051`` may stand for several servers. ``pick_first`` stays
    with one as long as it is there; ``round_robin`` connects to all and gives each its share of the calls.
    Names are looked up again when a connection ends, so replicas that come later are found if the servers
    let connections have an age (their setting ``CONNECTION_AGE_S``). Uploaded images are known to all
    replicas only where these share a Redis.

    Attributes:
        load_balancing: ``pick_first`` or ``round_robin``.
        keepalive_s: seconds of silence in a call after which the connection is pinged; 0: never. Servers hang
            up on callers that ping too often, Text4Seg's own below half of their ``KEEPALIVE_S``.
        reconnect_s: longest pause between attempts to connect again, in seconds.
        max_message_bytes: largest message, either way.
        options: further options of gRPC channels, which go before these.
    """

    load_balancing: LoadBalancing = "pick_first"
    keepalive_s: float = 60.0
    reconnect_s: float = 5.0
    max_message_bytes: int = 64 << 20
    options: tuple[ChannelOption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what gRPC would ignore or fail on later.

        Raises:
            ValueError: an unknown policy, a time that is negative or not finite, or no room for a message.
        """
        if self.load_balancing not in get_args(LoadBalancing):
            raise ValueError(
                f"load_balancing is one of {', '.join(get_args(LoadBalancing))}, not {self.load_balancing!r}"
            )
        if not (math.isfinite(self.keepalive_s) and self.keepalive_s >= 0):
            raise ValueError(f"keepalive_s must be 0 or more seconds, not {self.keepalive_s}")
        if not (math.isfinite(self.reconnect_s) and self.reconnect_s > 0):
            raise ValueError(f"reconnect_s must be above 0 seconds, not {self.reconnect_s}")
        if self.max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, not {self.max_message_bytes}")

    def channel_options(self, tls: Tls | None) -> list[ChannelOption]:
        """Options for a channel, secure or not."""
        reconnect_ms = max(1, int(self.reconnect_s * 1000))
        # gRPC's transparent retries stay on: they repeat only what no server has begun, such as a call that
        # meets a connection at the end of its age. text4seg_client.retry decides about everything else.
        ours: dict[str, str | int] = {
            "grpc.lb_policy_name": self.load_balancing,
            "grpc.initial_reconnect_backoff_ms": min(200, reconnect_ms),
            "grpc.max_reconnect_backoff_ms": reconnect_ms,
            "grpc.max_receive_message_length": self.max_message_bytes,
            "grpc.max_send_message_length": self.max_message_bytes,
            "grpc.primary_user_agent": f"text4seg-python/{text4seg.__version__}",
        }
        if self.keepalive_s:
            ours["grpc.keepalive_time_ms"] = max(1, int(self.keepalive_s * 1000))
        if tls and tls.server_name:
            ours["grpc.ssl_target_name_override"] = tls.server_name
        return list((ours | dict(self.options)).items())


DEFAULT_CONNECTION = Connection()


def check_address(address: str) -> str:
    """Return the address, unless gRPC would take it for something else than was meant.

    Raises:
        ValueError: an empty address, a URL of the web, or a host without a port.
    """
    scheme, slashes, rest = address.partition("://")
    if slashes and scheme.lower() in ("http", "https", "grpc", "grpcs", "tcp"):
        raise ValueError(f"{address!r} is a URL; the address is host:port: {rest.split('/')[0]!r}")
    if not address.startswith(_WITHOUT_PORT):
        host = address.removeprefix("dns:").rpartition("/")[2]
        if ":" not in host.rpartition("]")[2]:
            raise ValueError(f"{address!r} has no port; the address is host:port, or dns:///host:port")
    return address


def call_metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata sent with every call.

    Raises:
        ValueError: the key is empty, or holds what cannot travel. The message does not repeat it.
    """
    if api_key is None:
        return ()
    if not (api_key and api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise ValueError("an API key is printable ASCII text without spaces")
    return (("authorization", f"Bearer {api_key}"),)


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
