"""The one thread in which a model runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from text4seg.errors import ServiceUnavailableError

Result = TypeVar("Result")
Item = TypeVar("Item")

_BUFFERED_ITEMS = 1024
_LOOK_UP_S = 0.1

Cancelled = Callable[[], bool]
"""Says whether nobody waits for the work any more. Cheap; ask between steps of the model."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class ModelThread:
    """Runs blocking model work off the event loop, one piece at a time, in order of arrival.

    One thread, because a model's weights and scratch memory are used by one computation at a time and because
    two computations on the same cores only slow each other down.
    """

    def __init__(self, name: str = "model") -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closing = threading.Event()

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` in the thread and return its result.

        Cancelling the caller drops work that has not begun; work that has begun runs to its end, unheard.

        Raises:
            ServiceUnavailableError: the thread is closed.
        """
        return await asyncio.wrap_future(self._submit(function))

    async def stream(self, produce: Callable[[Cancelled], Iterator[Item]]) -> AsyncIterator[Item]:
        """Iterate over ``produce(cancelled)`` in the thread and yield its items as they come.

        When the consumer is cancelled or stops early, ``cancelled()`` turns true, the iteration ends at its
        next item and the generator is closed, so its ``finally`` blocks run.

        Up to 1024 items wait for a slow consumer, more than a text model writes in most answers, so that a
        stalled caller seldom holds up the thread and never fills the memory.

        Args:
            produce: a generator function; it runs entirely in the thread.

        Raises:
            ServiceUnavailableError: the thread is closed.
            Exception: whatever the generator raises.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Item | _End] = asyncio.Queue()
        room = threading.Semaphore(_BUFFERED_ITEMS)
        abandoned = threading.Event()

        def cancelled() -> bool:
            return abandoned.is_set() or self._closing.is_set()

        def put(item: Item | _End) -> None:
            if not abandoned.is_set():
                loop.call_soon_threadsafe(items.put_nowait, item)

        def wait_for_room() -> None:
            while not (room.acquire(timeout=_LOOK_UP_S) or cancelled()):
                pass

        def pump() -> None:
            iterator = produce(cancelled)
            try:
                for item in iterator:
                    wait_for_room()
                    put(item)
                    if cancelled():
                        break
            finally:
                if isinstance(iterator, Generator):
                    iterator.close()
            if self._closing.is_set():
                raise _closed()

        def finish(pumped: Future[None]) -> None:
            put(_End(_closed() if pumped.cancelled() else pumped.exception()))

        pumping = self._submit(pump)
        pumping.add_done_callback(finish)
        try:
            while not isinstance(item := await items.get(), _End):
                room.release()
                yield item
            if item.error is not None:
                raise item.error
        finally:
            abandoned.set()
            room.release()
            pumping.cancel()

    async def aclose(self) -> None:
        """Stop streams at their next item, drop work that has not begun, and wait for the thread to end."""
        self._closing.set()
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _submit(self, function: Callable[[], Result]) -> Future[Result]:
        if self._closing.is_set():
            raise _closed()

        def begin() -> Result:
            if self._closing.is_set():
                raise _closed()
            return function()

        # With the context of the caller: what the model logs belongs to a request too.
        return self._executor.submit(copy_context().run, begin)


def _closed() -> ServiceUnavailableError:
    return ServiceUnavailableError("the service is stopping")
