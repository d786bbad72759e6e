"""grpc.health.v1, made of named facts: the service is up while all of them hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the library is untyped
    """Answers probes from facts such as "started" that parts of the service report.

    Starts NOT_SERVING. The library's own servicer starts SERVING, and forgets the other watchers of a service
    when one of them leaves.
    """

    def __init__(self, knows: Callable[[str], bool] = lambda name: not name) -> None:
        """Start with the single fact "started", which does not hold.

        Args:
            knows: says whether a service name is served here; the empty name is the whole server.
        """
        self._facts = {"started": False}
        self._knows = knows
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def serving(self) -> bool:
        """Whether every fact holds."""
        return not self._closed and all(self._facts.values())

    @property
    def facts(self) -> dict[str, bool]:
        """Every fact reported so far and whether it holds."""
        return dict(self._facts)

    def report(self, fact: str, holds: bool) -> None:
        """State whether ``fact`` holds from now on; a new name adds a fact. Call it on the event loop."""
        self._facts[fact] = holds
        self._wake_watchers()

    def close(self) -> None:
        """Turn NOT_SERVING for good; watchers are told so and released."""
        self._closed = True
        self._wake_watchers()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Answer one probe; NOT_FOUND for a service that is not served here."""
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return _Status(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status now and at every change, until the server stops."""
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Status(status=status)
            if self._closed:
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        if service and self._facts["started"] and not self._knows(service):
            return int(_Status.SERVICE_UNKNOWN)
        return int(_Status.SERVING if self.serving else _Status.NOT_SERVING)

    def _wake_watchers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
