"""The time a call has left, and what of it may be passed on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from text4seg.errors import DeadlineExceededError

_FINEST_S = 0.001


def wire_rounding_s(remaining_s: float) -> float:
    """Return how much later than at the caller a deadline may pass here, in seconds.

    gRPC's C core, and with it every Python caller, rounds what it sends up to three digits: 60.02 s to 60.1 s
    (``Timeout`` in grpc's timeout_encoding.cc), so the caller's own timer fires first.

    Args:
        remaining_s: time left by what was received, in seconds.
    """
    if remaining_s < _FINEST_S * 1000:
        return _FINEST_S
    return float(10.0 ** (math.floor(math.log10(remaining_s)) - 2))


class _TimedContext(Protocol):
    def time_remaining(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock after which nobody waits for the answer any more.

    Attributes:
        expires_at: that moment in seconds of ``clock``; infinite when the caller set no deadline.
        clock: the monotonic clock.
    """

    expires_at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def from_context(
        cls, context: _TimedContext, margin_s: float = 0.02, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Read the deadline of a gRPC call.

        Args:
            context: the servicer context of the call.
            margin_s: seconds kept back besides gRPC's rounding, so that our error reaches the caller before
                its own timer fires.
            clock: the monotonic clock.
        """
        remaining = context.time_remaining()
        if remaining is None:
            return cls(math.inf, clock)
        return cls(clock() + remaining - wire_rounding_s(remaining) - margin_s, clock)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the deadline that lies ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    def remaining_s(self) -> float:
        """Return the seconds left: 0 when spent, infinite without a deadline."""
        return max(0.0, self.expires_at - self.clock())

    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining_s() == 0.0

    def check(self, stage: str) -> None:
        """Raise when no time is left.

        Raises:
            DeadlineExceededError: naming ``stage``.
        """
        if self.expired():
            raise DeadlineExceededError(stage)

    def timeout_for_peer(self, stage: str) -> float | None:
        """Return the ``timeout`` of a call to another service, in seconds; None without a deadline.

        Raises:
            DeadlineExceededError: no time is left to call anybody; names ``stage``.
        """
        self.check(stage)
        remaining = self.remaining_s()
        return None if math.isinf(remaining) else remaining
