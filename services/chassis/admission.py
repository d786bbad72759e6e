"""Admission control: a bounded queue in front of work that cannot be done all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from text4seg.errors import OverloadedError

_SMOOTHING = 0.2
_SHORTEST_RETRY_S = 0.1


class Gate:
    """Lets ``concurrency`` callers in, ``queue`` more wait in order of arrival, the rest are refused.

    gRPC's own ``maximum_concurrent_rpcs`` would refuse health checks too, and cannot say when to come back.
    """

    def __init__(
        self,
        concurrency: int,
        queue: int,
        clock: Callable[[], float] = time.monotonic,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the gate.

        Args:
            concurrency: callers inside at the same time, at least 1.
            queue: callers that may wait, at least 0.
            clock: the monotonic clock, in seconds.
            refused: called for each caller that is refused.
        """
        if concurrency < 1 or queue < 0:
            raise ValueError("a gate needs concurrency >= 1 and queue >= 0")
        self._concurrency = concurrency
        self._queue = queue
        self._clock = clock
        self._refused = refused
        self._semaphore = asyncio.Semaphore(concurrency)
        self._admitted = 0
        self._mean_hold_s = 1.0

    @property
    def waiting(self) -> int:
        """Callers that wait for their turn now."""
        return max(0, self._admitted - self._concurrency)

    @property
    def inside(self) -> int:
        """Callers that are inside now."""
        return min(self._admitted, self._concurrency)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a place inside; yields the seconds that were spent waiting for it.

        Cancelling a waiting caller gives its place in the queue back at once.

        Raises:
            OverloadedError: the queue is full; carries the expected wait as ``retry_after_s``.
        """
        if self._admitted >= self._concurrency + self._queue:
            self._refused()
            raise OverloadedError("the queue is full", retry_after_s=self._expected_wait_s())
        self._admitted += 1
        arrived = self._clock()
        try:
            async with self._semaphore:
                entered = self._clock()
                try:
                    yield entered - arrived
                finally:
                    self._mean_hold_s += _SMOOTHING * (self._clock() - entered - self._mean_hold_s)
        finally:
            self._admitted -= 1

    def _expected_wait_s(self) -> float:
        return max(_SHORTEST_RETRY_S, self._mean_hold_s * (self.waiting + 1) / self._concurrency)
