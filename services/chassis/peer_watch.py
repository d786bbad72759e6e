"""What a peer says of itself, kept current."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import grpc

from text4seg.errors import PeerUnavailableError, Text4SegError

_LOG = logging.getLogger(__name__)
_Info = TypeVar("_Info")

_RETRY_S = 0.5
_RECENT_S = 0.1


class PeerWatch(Generic[_Info]):
    """What a peer says of itself, kept current.

    It is asked at the start, after every loss of the connection (a restarted peer may have another model),
    and every so often (several may hide behind one address). Out of reach, it is what it was.
    """

    def __init__(
        self,
        peer: str,
        channel: grpc.aio.Channel,
        ask: Callable[[], Awaitable[_Info]],
        refresh_s: float,
        report: Callable[[bool], None] = lambda reachable: None,
        changed: Callable[[_Info], None] = lambda info: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to watch.

        Args:
            peer: its name, for errors and logs.
            channel: to it.
            ask: fetches its info; raises domain errors.
            refresh_s: seconds between questions while nothing happens.
            report: told whether the peer answers, whenever it was asked.
            changed: told the info when it is another than before.
            clock: a monotonic clock in seconds.
        """
        self._peer = peer
        self._channel = channel
        self._ask = ask
        self._refresh_s = refresh_s
        self._report = report
        self._changed = changed
        self._clock = clock
        self._info: _Info | None = None
        self._error: Text4SegError = PeerUnavailableError(peer, "has not answered yet")
        self._fresh = False
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._doubted = asyncio.Event()

    async def get(self) -> _Info:
        """Return the latest info; when it is in doubt, ask first.

        Raises:
            Text4SegError: the peer has never answered.
        """
        if not self._fresh:
            await self._refresh()
        if self._info is None:
            raise self._error
        return self._info

    def doubt(self) -> None:
        """Ask again soon: a call to the peer has failed."""
        self._fresh = False
        self._doubted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the info current meanwhile."""
        watching = asyncio.create_task(self._watch(), name=f"watch {self._peer}")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self) -> None:
        while True:
            self._doubted.clear()
            await self._refresh(even_if_fresh=True)
            if self._fresh:
                self._fresh = not await self._doubtful()
            else:
                await asyncio.sleep(_RETRY_S)

    async def _doubtful(self) -> bool:
        """Wait until it is time to ask again; say whether something happened before."""
        signs = [
            asyncio.ensure_future(self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)),
            asyncio.ensure_future(self._doubted.wait()),
        ]
        try:
            happened, _ = await asyncio.wait(
                signs, timeout=self._refresh_s, return_when=asyncio.FIRST_COMPLETED
            )
            return bool(happened)
        finally:
            for sign in signs:
                sign.cancel()
            await asyncio.gather(*signs, return_exceptions=True)

    async def _refresh(self, even_if_fresh: bool = False) -> None:
        async with self._asking:
            # Callers that waited for the lock, or come right after a failure, need not ask again.
            recent = self._clock() - self._asked_at < _RECENT_S
            if (self._fresh and not even_if_fresh) or (not even_if_fresh and recent):
                return
            was_reachable = self._fresh
            try:
                info = await self._ask()
            except Text4SegError as error:
                self._error = error
                self._fresh = False
                if was_reachable or self._asked_at == float("-inf"):
                    _LOG.warning("%s does not answer: %s", self._peer, error)
            else:
                if info != self._info:
                    self._changed(info)
                self._info = info
                self._fresh = True
            self._asked_at = self._clock()
        self._report(self._fresh)
