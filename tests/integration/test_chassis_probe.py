"""The health check of containers: exit code 0 only where a service says that it is serving."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.chassis.health import Health
from services.chassis.probe import main
from services.chassis.routing import Router
from services.chassis.server import start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from tests.serving import NOWHERE


async def test_it_tells_serving_from_loading(capsys: pytest.CaptureFixture[str]) -> None:
    loading = threading.Event()

    @asynccontextmanager
    async def build(
        settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
    ) -> AsyncIterator[None]:
        await asyncio.to_thread(loading.wait, 60)
        yield

    service = await start_server("service", ServerSettings(address="127.0.0.1:0", drain_s=0), build)
    try:
        assert await asyncio.to_thread(main, [service.address]) == 1
        assert capsys.readouterr().err == f"{service.address}: NOT_SERVING\n"
        loading.set()
        await service.wait_serving()
        assert await asyncio.to_thread(main, [service.address]) == 0
        assert capsys.readouterr().err == ""
    finally:
        loading.set()
        await service.stop(0)


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([NOWHERE]) == 1
    assert capsys.readouterr().err in {f"{NOWHERE}: UNAVAILABLE\n", f"{NOWHERE}: DEADLINE_EXCEEDED\n"}


def test_it_needs_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "HOST:PORT" in capsys.readouterr().err
