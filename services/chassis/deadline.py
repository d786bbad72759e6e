"""The time a call has left, and what of it may be passed on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from text4seg.errors import DeadlineExceededError


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
            margin_s: seconds kept back, so that our error reaches the caller before its own timer fires.
            clock: the monotonic clock.
        """
        remaining = context.time_remaining()
        return cls(math.inf if remaining is None else clock() + remaining - margin_s, clock)

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
