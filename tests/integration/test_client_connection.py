"""Addresses, connection options and load balancing of the client."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from tests.hand_server import HandServicer, picture, serving
from text4seg_client import AsyncClient, Client, Connection, Tls
from text4seg_client.channel import check_address

ROUND_ROBIN = Connection(load_balancing="round_robin")
MOST_CALLS = 10_000


class Peers(HandServicer):
    """Notes the connections that calls come over."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: set[str] = set()

    def GetModelInfo(self, message: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.peers.add(context.peer())
        return super().GetModelInfo(message, context)


@pytest.fixture
def replicas() -> Iterator[tuple[str, list[HandServicer]]]:
    """One address for two servers, and the servers."""
    servicers = [HandServicer(), HandServicer()]
    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(servicer)) for servicer in servicers]
        yield f"ipv4:{','.join(addresses)}", servicers


def _shares(servicers: list[HandServicer]) -> list[int]:
    return [len(servicer.seen) for servicer in servicers]


def test_round_robin_gives_every_replica_its_share(replicas: tuple[str, list[HandServicer]]) -> None:
    address, servicers = replicas
    with Client(address, connection=ROUND_ROBIN) as client:
        for _ in range(MOST_CALLS):
            client.model_info()
            if all(_shares(servicers)):  # both connections are open
                break
        before = _shares(servicers)
        for _ in range(10):
            client.model_info()
    assert [after - begun for begun, after in zip(before, _shares(servicers), strict=True)] == [5, 5]


async def test_round_robin_from_asyncio(replicas: tuple[str, list[HandServicer]]) -> None:
    address, servicers = replicas
    async with AsyncClient(address, connection=ROUND_ROBIN) as client:
        for _ in range(MOST_CALLS):
            await client.model_info()
            if all(_shares(servicers)):
                break
    assert all(_shares(servicers))


def test_without_it_one_replica_takes_all(replicas: tuple[str, list[HandServicer]]) -> None:
    address, servicers = replicas
    with Client(address) as client:
        for _ in range(6):
            client.model_info()
    assert sorted(_shares(servicers)) == [0, 6]


def test_names_are_looked_up() -> None:
    servicer = HandServicer()
    with (
        serving(servicer) as address,
        Client(f"dns:///{address}", connection=ROUND_ROBIN, timeout_s=20) as client,
    ):
        assert client.segment(picture(), "red").regions


def test_connections_of_an_age_are_replaced_unnoticed() -> None:
    servicer = Peers()
    aging = [("grpc.max_connection_age_ms", 50)]
    with serving(servicer, options=aging) as address, Client(address) as client:
        for _ in range(MOST_CALLS):
            client.model_info()
            if len(servicer.peers) == 5:
                break
    assert len(servicer.peers) == 5


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "text4seg.example:443",
        "[::1]:50051",
        "dns:///text4seg.example:50051",
        "dns://10.0.0.1/text4seg.example:50051",
        "ipv4:10.0.0.1:50051,10.0.0.2:50051",
        "ipv6:[::1]:50051",
        "unix:/run/text4seg.sock",
        "unix:///run/text4seg.sock",
        "unix-abstract:text4seg",
        "xds:///text4seg",
    ],
)
def test_targets_of_grpc_are_taken(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "has no port"),
        ("localhost", "has no port"),
        ("[::1]", "has no port"),
        ("dns:///text4seg.example", "has no port"),
        ("dns:text4seg.example", "has no port"),
        ("http://127.0.0.1:50051", "'127.0.0.1:50051'"),
        ("https://text4seg.example/segment", "is a URL"),
        ("grpc://127.0.0.1:50051", "is a URL"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_target_is_refused_before_any_call(
    kind: type[Client] | type[AsyncClient], address: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        kind(address)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"load_balancing": "random"}, "pick_first, round_robin, not 'random'"),
        ({"keepalive_s": -1.0}, "keepalive_s"),
        ({"keepalive_s": float("inf")}, "keepalive_s"),
        ({"reconnect_s": 0.0}, "reconnect_s"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
    ],
)
def test_connections_that_cannot_work_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Connection(**settings)  # type: ignore[arg-type]


def test_the_connection_is_what_grpc_is_told() -> None:
    connection = Connection(
        load_balancing="round_robin",
        keepalive_s=30,
        reconnect_s=0.1,
        max_message_bytes=1000,
        options=(("grpc.max_receive_message_length", 2000), ("grpc.enable_retries", 0)),
    )
    told = dict(connection.channel_options(Tls(server_name="text4seg.example")))
    assert told["grpc.lb_policy_name"] == "round_robin"
    assert told["grpc.keepalive_time_ms"] == 30_000
    assert told["grpc.max_reconnect_backoff_ms"] == told["grpc.initial_reconnect_backoff_ms"] == 100
    assert told["grpc.max_send_message_length"] == 1000
    assert told["grpc.max_receive_message_length"] == 2000
    assert told["grpc.enable_retries"] == 0
    assert told["grpc.ssl_target_name_override"] == "text4seg.example"
    assert "grpc.keepalive_time_ms" not in dict(Connection(keepalive_s=0).channel_options(None))


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_travel_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as raised:
        Client(api_key=key)
    assert not key or key not in str(raised.value)
