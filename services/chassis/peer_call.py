"""Calls to another service: how to reach it, and what a call's failure means here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    PeerUnavailableError,
    ServiceUnavailableError,
    Text4SegError,
)


def channel_options(max_message_bytes: int = -1) -> list[tuple[str, int]]:
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
        # Otherwise two services of one process that use the same address would share one connection's fate.
        ("grpc.use_local_subchannel_pool", 1),
    ]


@contextmanager
def calling(
    peer: str,
    stage: str,
    left_s: float | None,
    most_s: float,
    on_unavailable: Callable[[], None] = lambda: None,
    translate: Callable[[grpc.RpcError, str], Text4SegError] = wire.error_from_rpc,
) -> Iterator[float]:
    """Yield the timeout of a call, and turn the failure of what is done inside into a domain error.

    Args:
        peer: name of the service that is called.
        stage: what a deadline that passes meanwhile interrupts.
        left_s: seconds that our own caller still waits; None: for ever.
        most_s: seconds that the peer may take, however much time there is.
        on_unavailable: called when the peer seems to be gone.
        translate: makes the domain error from what gRPC raised and the peer's name.

    Raises:
        Text4SegError: the peer's own error, or why it could not be reached.
    """
    own = left_s is None or most_s < left_s
    try:
        yield most_s if left_s is None else min(most_s, left_s)
    except grpc.RpcError as failure:
        error = translate(failure, peer)
        if isinstance(error, DeadlineExceededError):
            # Whose patience ended: the caller's, or ours with the peer?
            error = (
                PeerUnavailableError(peer, f"did not answer within {most_s:g} s")
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
        raise PeerUnavailableError(peer, "ended the call") from cancelled
