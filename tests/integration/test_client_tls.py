"""TLS and mTLS, with certificates made for the test."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.certificates import Pair, issue
from tests.hand_server import HandServicer, picture, serving
from text4seg.errors import ServiceUnavailableError
from text4seg_client import AsyncClient, Client, Tls
from text4seg_client.retry import is_unreachable


@pytest.fixture(scope="module")
def authority() -> Pair:
    return issue("authority")


@pytest.fixture(scope="module")
def root(authority: Pair) -> bytes:
    return authority.certificate_pem


@pytest.fixture(scope="module")
def server_pair(authority: Pair) -> tuple[bytes, bytes]:
    pair = issue("server", authority)
    return pair.key_pem, pair.certificate_pem


@pytest.fixture
def tls_address(server_pair: tuple[bytes, bytes]) -> Iterator[str]:
    with serving(HandServicer(), grpc.ssl_server_credentials([server_pair])) as address:
        yield address


@pytest.fixture
def mtls_address(server_pair: tuple[bytes, bytes], root: bytes) -> Iterator[str]:
    credentials = grpc.ssl_server_credentials([server_pair], root, require_client_auth=True)
    with serving(HandServicer(), credentials) as address:
        yield address


def test_tls_with_a_known_authority(tls_address: str, root: bytes) -> None:
    with Client(tls_address, tls=Tls(root), timeout_s=20) as client:
        assert client.segment(picture(), "red").regions


async def test_tls_from_asyncio(tls_address: str, root: bytes) -> None:
    async with AsyncClient(tls_address, tls=Tls(root), timeout_s=20) as client:
        assert (await client.segment(picture(), "red")).regions


def test_a_server_of_an_unknown_authority_is_refused(tls_address: str) -> None:
    stranger = issue("stranger").certificate_pem
    with (
        Client(tls_address, tls=Tls(stranger), timeout_s=20) as client,
        pytest.raises(ServiceUnavailableError) as raised,
    ):
        client.segment(picture(), "red")
    assert is_unreachable(raised.value)


def test_plain_text_does_not_reach_a_tls_server(tls_address: str) -> None:
    with Client(tls_address, timeout_s=20) as client, pytest.raises(ServiceUnavailableError):
        client.model_info()


def test_a_server_name_that_differs_from_the_address(tls_address: str, root: bytes) -> None:
    by_name = tls_address.replace("127.0.0.1", "localhost")
    with (
        Client(by_name, tls=Tls(root), timeout_s=20) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        client.model_info()
    with Client(by_name, tls=Tls(root, server_name="127.0.0.1"), timeout_s=20) as client:
        assert client.model_info().versions.model == "hand 1"


def test_mtls_asks_for_the_callers_certificate(
    mtls_address: str, authority: Pair, root: bytes, tmp_path: Path
) -> None:
    (tmp_path / "root.pem").write_bytes(root)
    caller = issue("caller", authority).write(tmp_path)
    tls = Tls.from_files(tmp_path / "root.pem", caller["tls_certificate"], caller["tls_key"])
    with Client(mtls_address, tls=tls, timeout_s=20) as client:
        assert client.segment(picture(), "red").regions
    with (
        Client(mtls_address, tls=Tls(root), timeout_s=20) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        client.model_info()


def test_a_certificate_without_its_key_is_refused(root: bytes) -> None:
    with pytest.raises(ValueError, match="private key"):
        Tls(root, certificate_chain=b"certificate")


def test_the_private_key_is_not_printed() -> None:
    assert "secret" not in repr(Tls(b"root", b"certificate", b"secret"))
