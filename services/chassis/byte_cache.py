"""Bytes under a key for a while: in memory, or in Redis within a time budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.chassis.telemetry import Telemetry

PEER = "redis"
"""The name of the server in metrics and traces."""

_log = logging.getLogger(__name__)
_Reply = TypeVar("_Reply")


class ByteCache(Protocol):
    """A place to keep answers. Losing them is allowed, failing is not."""

    async def get(self, key: str) -> bytes | None:
        """Return the value under ``key``, or None when there is none (any more)."""
        ...

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` under ``key`` for ``ttl_s`` seconds, if there is room."""
        ...

    async def aclose(self) -> None:
        """Give up connections."""
        ...


class MemoryCache:
    """Keeps values in this process; the least recently used go first."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an empty cache.

        Args:
            max_bytes: most bytes of keys and values together.
            clock: the monotonic clock, in seconds.
        """
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes of keys and values kept now."""
        return self._size

    async def get(self, key: str) -> bytes | None:
        """Return the value under ``key``, or None when there is none (any more)."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires_at = entry
        if self._clock() >= expires_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds; one larger than the whole cache only drops what was there."""
        self._drop(key)
        size = _size(key, value)
        if ttl_s <= 0 or size > self._max_bytes:
            return
        while self._size + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = (value, self._clock() + ttl_s)
        self._size += size

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size(key, entry[0])


class RedisCache:
    """Keeps values in a Redis-protocol server; slow or gone, it is a cache without values.

    Every call ends within the budget. After ``failures`` calls in a row that did not, the server is left
    alone for ``rest_s`` seconds, then one call tries it again.
    """

    def __init__(
        self,
        url: str,
        budget_s: float = 0.05,
        failures: int = 3,
        rest_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Make a client; it connects at the first call.

        Args:
            url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py's ``from_url`` takes it.
            budget_s: most seconds that one call takes.
            failures: failed calls in a row after which the server gets a rest.
            rest_s: how long that rest is, in seconds.
            clock: the monotonic clock, in seconds.
            telemetry: told of every call; None: nobody is.

        Raises:
            ValueError: the URL is malformed.
        """
        # No retries: the budget is for one try, and what fails is only a miss.
        self._redis: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=budget_s)
        self._budget_s = budget_s
        self._failures = failures
        self._rest_s = rest_s
        self._clock = clock
        self._telemetry = telemetry or Telemetry("cache")
        self._failed = 0
        self._rests_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """Return the value under ``key``; None when there is none, or the server does not say in time."""
        reply = await self._attempt("get", lambda: self._redis.get(key))
        return reply if isinstance(reply, bytes) else None

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds (to the millisecond), if the server takes it in time."""
        milliseconds = int(ttl_s * 1000)
        if milliseconds > 0:
            await self._attempt("set", lambda: self._redis.set(key, value, px=milliseconds))
        else:
            await self._attempt("delete", lambda: self._redis.delete(key))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _attempt(self, method: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply | None:
        if self._failed >= self._failures and self._clock() < self._rests_until:
            return None
        # Whoever comes while this call is still out finds the rest prolonged: one call tries, not all.
        self._rests_until = self._clock() + self._rest_s
        try:
            with self._telemetry.calling(PEER, method):
                async with asyncio.timeout(self._budget_s):
                    reply = await _asked(call)
        except (OSError, TimeoutError) as error:
            self._failed += 1
            if self._failed == self._failures:
                _log.warning("the cache server does not answer, going on without it: %r", error)
            return None
        if self._failed >= self._failures:
            _log.warning("the cache server answers again")
        self._failed = 0
        return reply


async def _asked(call: Callable[[], Awaitable[_Reply]]) -> _Reply:
    try:
        return await call()
    except RedisError as error:
        raise ConnectionError(str(error)) from error


def _size(key: str, value: bytes) -> int:
    return len(key.encode()) + len(value)
