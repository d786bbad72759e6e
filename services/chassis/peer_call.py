"""Calls to another service: how to reach it, and what a call's failure means here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from services.chassis.telemetry import Telemetry
from services.chassis.tracing import Headers
from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    PeerUnavailableError,
    ServiceUnavailableError,
    Text4SegError,
)


def channel_options(max_message_bytes: int = -1) -> list[tuple[str, int | str]]:
    """Return the options of a channel to a peer: it connects again soon after the peer was lost.

    Args:
        max_message_bytes: largest message, in bytes; -1: any.
    """
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 60_000),
        # Where a name has several addresses (replicas behind ``dns:///``), each gets its share of the calls.
        ("grpc.lb_policy_name", "round_robin"),
        # Otherwise two services of one process that use the same address would share one connection's fate.
        ("grpc.use_local_subchannel_pool", 1),
    ]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes along with a call of a peer.

    Attributes:
        timeout_s: seconds that it may take.
        headers: metadata by which the peer goes on with the trace.
    """

    timeout_s: float
    headers: Headers


class Peer:
    """Another service, as it is called from this one: counted, traced, with its failures as domain errors."""

    def __init__(
        self,
        name: str,
        telemetry: Telemetry,
        translate: Callable[[grpc.RpcError, str], Text4SegError] = wire.error_from_rpc,
    ) -> None:
        """Name a peer.

        Args:
            name: what it is called in errors, metrics and traces.
            telemetry: told of every call.
            translate: makes the domain error from what gRPC raised and the peer's name.
        """
        self.name = name
        self._telemetry = telemetry
        self._translate = translate

    @contextmanager
    def calling(
        self,
        method: str,
        stage: str,
        left_s: float | None,
        most_s: float,
        on_unavailable: Callable[[], None] = lambda: None,
    ) -> Iterator[Outgoing]:
        """Yield what goes along with a call, and turn the failure of what is done inside into a domain error.

        Args:
            method: what the peer is asked for.
            stage: what a deadline that passes meanwhile interrupts.
            left_s: seconds that our own caller still waits; None: for ever.
            most_s: seconds that the peer may take, however much time there is.
            on_unavailable: called when the peer seems to be gone.

        Raises:
            Text4SegError: the peer's own error, or why it could not be reached.
        """
        own = left_s is None or most_s < left_s
        timeout_s = most_s if left_s is None else min(most_s, left_s)
        try:
            with self._telemetry.calling(self.name, method) as span:
                yield Outgoing(timeout_s, span.headers)
        except grpc.RpcError as failure:
            error = self._translate(failure, self.name)
            if isinstance(error, DeadlineExceededError):
                # Whose patience ended: the caller's, or ours with the peer?
                error = (
                    PeerUnavailableError(self.name, f"did not answer within {most_s:g} s")
                    if own
                    else DeadlineExceededError(stage)
                )
            if isinstance(error, ServiceUnavailableError):
                on_unavailable()
            raise error from failure
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # grpc.aio also says so when the peer, stopping, cancels the call.
            on_unavailable()
            raise PeerUnavailableError(self.name, "ended the call") from cancelled
