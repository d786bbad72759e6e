"""Which failed calls are tried again, and after how long; clock, sleep and randomness are the caller's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from text4seg.errors import ServiceUnavailableError, Text4SegError

_STATUS_KEY = "grpc-status-details-bin"
_RETRIED_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})

Random = Callable[[], float]
"""Draws uniformly from [0, 1)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounded retries with exponential backoff and jitter, never sooner than the server asks.

    Only a server that said when to come back is asked again (RESOURCE_EXHAUSTED or UNAVAILABLE with
    RetryInfo): that is its promise that the call had no effect and that a retry may help. Everything else,
    a refused connection included, is raised at once. The backoff is "equal jitter": half of it fixed, half
    random (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        attempts: calls in all, the first included; 1 never retries.
        initial_s: backoff after the first failure, in seconds.
        multiplier: growth of the backoff per failure.
        longest_s: largest backoff, in seconds.
    """

    attempts: int = 4
    initial_s: float = 0.2
    multiplier: float = 2.0
    longest_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: fewer than one attempt, or a negative time.
        """
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")
        if self.initial_s < 0 or self.longest_s < 0 or self.multiplier < 1:
            raise ValueError("backoff times must not be negative and must not shrink")

    def delay(self, asked_s: float | None, failures: int, remaining_s: float, random: Random) -> float | None:
        """Seconds to wait before the next attempt, or None when the error must be raised.

        Args:
            asked_s: seconds that the server asked for, see :func:`requested_delay`; None when it did not.
            failures: attempts that failed so far, the last included.
            remaining_s: seconds left until the caller's deadline.
            random: source of the jitter.
        """
        if asked_s is None or failures >= self.attempts:
            return None
        backoff = min(self.initial_s * self.multiplier ** (failures - 1), self.longest_s)
        jittered = backoff / 2 * (1 + random())
        # A wait that the server asked for is spread upwards only: its callers must not return all at once.
        seconds = max(jittered, asked_s + backoff / 2 * random())
        return seconds if seconds < remaining_s else None


DEFAULT_RETRY = RetryPolicy()


def requested_delay(error: grpc.RpcError) -> float | None:
    """Seconds after which the server asked to be tried again; None when it did not."""
    rpc: Any = error  # what is raised is a call as well, which the type does not say
    if rpc.code() not in _RETRIED_CODES:
        return None
    for key, value in rpc.trailing_metadata() or ():
        if key != _STATUS_KEY or not isinstance(value, bytes):
            continue
        info = error_details_pb2.RetryInfo()
        try:
            details = status_pb2.Status.FromString(value).details
            if any(detail.Unpack(info) for detail in details):
                seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
                return max(0.0, seconds)
        except DecodeError:
            return None
    return None


def is_unreachable(error: Text4SegError) -> bool:
    """Whether nobody answered at the address, as opposed to a server that answered that it cannot now."""
    if not isinstance(error, ServiceUnavailableError):
        return False
    return not isinstance(error.__cause__, grpc.RpcError) or requested_delay(error.__cause__) is None
