"""TLS and mTLS with certificates made here, renewed while the server runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.health import Health
from services.chassis.routing import Router
from services.chassis.server import RunningService, StartupError, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from tests.certificates import Pair, issue


@asynccontextmanager
async def nothing(
    settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[RunningService]:
    service = await start_server("secure", ServerSettings(**settings), nothing)
    try:
        await service.wait_serving()
        yield service
    finally:
        await service.stop(0)


async def answers(address: str, authority: Pair, caller: Pair | None = None) -> bool:
    """Whether a caller who trusts ``authority`` is served on a new connection."""
    credentials = grpc.ssl_channel_credentials(
        authority.certificate_pem,
        None if caller is None else caller.key_pem,
        None if caller is None else caller.certificate_pem,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        try:
            response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def test_tls_serves_who_trusts_the_certificate_and_nobody_else(tmp_path: Path) -> None:
    authority, stranger = issue("authority"), issue("stranger")
    async with serving(**issue("server", authority).write(tmp_path)) as service:
        assert await answers(service.address, authority)
        assert not await answers(service.address, stranger)
        async with grpc.aio.insecure_channel(service.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_asks_callers_for_a_certificate_of_the_right_authority(tmp_path: Path) -> None:
    authority, callers, stranger = issue("authority"), issue("callers"), issue("stranger")
    files = issue("server", authority).write(tmp_path)
    (tmp_path / "callers.crt").write_bytes(callers.certificate_pem)

    async with serving(**files, tls_client_ca=tmp_path / "callers.crt") as service:
        assert await answers(service.address, authority, issue("client", callers))
        assert not await answers(service.address, authority, issue("client", stranger))
        assert not await answers(service.address, authority)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    old, new = issue("old authority"), issue("new authority")
    async with serving(**issue("server", old).write(tmp_path)) as service:
        assert await answers(service.address, old)
        assert not await answers(service.address, new)

        issue("server", new).write(tmp_path)

        assert await answers(service.address, new)
        assert not await answers(service.address, old)


async def test_a_broken_renewal_keeps_the_last_good_certificate(tmp_path: Path) -> None:
    authority = issue("authority")
    good = issue("server", authority)
    async with serving(**good.write(tmp_path)) as service:
        (tmp_path / "tls.key").write_bytes(issue("another key").key_pem)
        assert await answers(service.address, authority)
        (tmp_path / "tls.crt").write_text("half a certifica")
        assert await answers(service.address, authority)
        (tmp_path / "tls.crt").unlink()
        assert await answers(service.address, authority)

        renewed = issue("renewed authority")
        issue("server", renewed).write(tmp_path)
        assert await answers(service.address, renewed)


async def test_new_authorities_of_callers_are_picked_up(tmp_path: Path) -> None:
    authority, old, new = issue("authority"), issue("old callers"), issue("new callers")
    trusted = tmp_path / "callers.crt"
    trusted.write_bytes(old.certificate_pem)
    files = issue("server", authority).write(tmp_path)
    async with serving(**files, tls_client_ca=trusted) as service:
        assert not await answers(service.address, authority, issue("client", new))
        trusted.write_bytes(new.certificate_pem)
        assert await answers(service.address, authority, issue("client", new))
        assert not await answers(service.address, authority, issue("client", old))


async def test_probes_need_no_certificate_on_their_own_port(tmp_path: Path, unused_tcp_port: int) -> None:
    files = issue("server", issue("authority")).write(tmp_path)
    async with (
        serving(**files, health_address=f"127.0.0.1:{unused_tcp_port}"),
        grpc.aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}") as channel,
    ):
        response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert response.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("broken", ["missing", "not PEM", "another key", "bad authority"])
async def test_unusable_files_stop_the_start(tmp_path: Path, broken: str) -> None:
    files = issue("server").write(tmp_path)
    if broken == "missing":
        files["tls_certificate"].unlink()
    elif broken == "not PEM":
        files["tls_certificate"].write_text("hello")
    elif broken == "another key":
        files["tls_key"].write_bytes(issue("other").key_pem)
    else:
        files["tls_client_ca"] = tmp_path / "callers.crt"
        files["tls_client_ca"].write_text("hello")

    with pytest.raises(StartupError, match="TLS files cannot be used"):
        await start_server("secure", ServerSettings(**files), nothing)
