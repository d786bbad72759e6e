"""Time per stage of a call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from text4seg.segmentation import Timing

Clock = Callable[[], float]


class Stopwatch:
    """Sums the seconds spent in named stages; a stage that is entered several times adds up."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Start the total.

        Args:
            clock: a monotonic clock in seconds.
        """
        self._clock = clock
        self._began = clock()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage: image, cache, generate, decode or refine."""
        began = self._clock()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + self._clock() - began

    def timing(self) -> Timing:
        """Return the stages so far and the total since the start."""
        return Timing(
            total_s=self._clock() - self._began,
            **{f"{name}_s": seconds for name, seconds in self._stages.items()},
        )
