"""TLS and mTLS, with certificates made for the test."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.hand_server import HandServicer, picture, serving
from text4seg.errors import ServiceUnavailableError
from text4seg_client import AsyncClient, Client, Tls
from text4seg_client.retry import is_unreachable


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, PEM-encoded."""

    certificate: bytes
    key: bytes


@pytest.fixture(scope="module")
def authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return _certificate("authority", key, None), key


@pytest.fixture(scope="module")
def server_identity(authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> Identity:
    return _identity("localhost", authority)


@pytest.fixture(scope="module")
def client_identity(authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> Identity:
    return _identity("caller", authority)


@pytest.fixture
def root(authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> bytes:
    return authority[0].public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def tls_address(server_identity: Identity) -> Iterator[str]:
    credentials = grpc.ssl_server_credentials([(server_identity.key, server_identity.certificate)])
    with serving(HandServicer(), credentials) as address:
        yield address


@pytest.fixture
def mtls_address(server_identity: Identity, root: bytes) -> Iterator[str]:
    credentials = grpc.ssl_server_credentials(
        [(server_identity.key, server_identity.certificate)], root, require_client_auth=True
    )
    with serving(HandServicer(), credentials) as address:
        yield address


def test_tls_with_a_known_authority(tls_address: str, root: bytes) -> None:
    with Client(tls_address, tls=Tls(root), timeout_s=20) as client:
        assert client.segment(picture(), "red").regions


async def test_tls_from_asyncio(tls_address: str, root: bytes) -> None:
    async with AsyncClient(tls_address, tls=Tls(root), timeout_s=20) as client:
        assert (await client.segment(picture(), "red")).regions


def test_a_server_of_an_unknown_authority_is_refused(tls_address: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    stranger = _certificate("stranger", key, None).public_bytes(serialization.Encoding.PEM)
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
    by_number = tls_address.replace("localhost", "127.0.0.1")
    with (
        Client(by_number, tls=Tls(root), timeout_s=20) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        client.model_info()
    with Client(by_number, tls=Tls(root, server_name="localhost"), timeout_s=20) as client:
        assert client.model_info().versions.model == "hand 1"


def test_mtls_asks_for_the_callers_certificate(
    mtls_address: str, root: bytes, client_identity: Identity, tmp_path: Path
) -> None:
    (tmp_path / "root.pem").write_bytes(root)
    (tmp_path / "caller.pem").write_bytes(client_identity.certificate)
    (tmp_path / "caller.key").write_bytes(client_identity.key)
    tls = Tls.from_files(tmp_path / "root.pem", tmp_path / "caller.pem", tmp_path / "caller.key")
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


def _identity(name: str, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity(
        _certificate(name, key, authority).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    """A certificate for a name: signed by the authority, or, without one, an authority itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority[0].subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    return builder.sign(authority[1] if authority else key, hashes.SHA256())
