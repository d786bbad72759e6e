"""Images of callers: opening, uploading, and the store in memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from services.chassis.image_file import ImageLimits
from services.orchestrator.image_store import ImageStore, MemoryImages
from text4seg.errors import (
    FeatureUnimplementedError,
    ImageInvalidError,
    ImageNotFoundError,
    OverloadedError,
    ServiceUnavailableError,
)
from text4seg.segmentation import ImageContent, ImageId, ImageUri

LIMITS = ImageLimits(bytes=10_000, pixels=10_000)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def file(width: int = 30, height: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


async def pieces(data: bytes, size: int = 10) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def test_content_is_opened_with_its_hash_and_size() -> None:
    opened = await ImageStore(MemoryImages(1000), LIMITS, 60).open(ImageContent(file()))
    assert opened.data == file()
    assert opened.size == (20, 30)
    assert opened.digest == hashlib.sha256(file()).hexdigest()


async def test_uploads_under_way_have_a_limit_together() -> None:
    data = file()
    store = ImageStore(MemoryImages(10_000), LIMITS, ttl_s=60, upload_bytes=2 * len(data))
    arrived = asyncio.Event()
    go_on = asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        yield data[:-1]
        arrived.set()
        await go_on.wait()
        yield data[-1:]

    async def leaving() -> AsyncIterator[bytes]:
        yield data[:-1]
        raise ConnectionError

    slow = asyncio.create_task(store.put(halting()))
    await arrived.wait()
    await store.put(pieces(data))
    with pytest.raises(OverloadedError) as failure:
        await store.put(pieces(data + bytes(10)))
    assert failure.value.retry_after_s > 0
    with pytest.raises(ConnectionError):
        await store.put(leaving())
    await store.put(pieces(data))  # uploads that failed and ended have given their room back
    go_on.set()
    assert (await slow).size == (20, 30)


async def test_an_upload_is_kept_until_it_expires() -> None:
    clock = Clock()
    store = ImageStore(MemoryImages(10_000, clock), LIMITS, ttl_s=60)
    stored = await store.put(pieces(file()))
    assert stored.size == (20, 30)
    assert stored.time_to_live_s == 60
    clock.now = 59
    assert (await store.open(ImageId(stored.id))).data == file()
    clock.now = 60
    with pytest.raises(ImageNotFoundError):
        await store.open(ImageId(stored.id))


async def test_another_upload_of_it_begins_its_time_anew() -> None:
    clock = Clock()
    store = ImageStore(MemoryImages(10_000, clock), LIMITS, ttl_s=60)
    first = await store.put(pieces(file()))
    clock.now = 30
    other = await store.put(pieces(file(31)))
    clock.now = 50
    assert (await store.put(pieces(file()))).id == first.id
    clock.now = 100
    assert (await store.open(ImageId(first.id))).data == file()
    with pytest.raises(ImageNotFoundError):
        await store.open(ImageId(other.id))


async def test_a_full_store_refuses_and_says_when_there_is_room() -> None:
    clock = Clock()
    images = MemoryImages(100, clock)
    await images.set("a", bytes(60), 30)
    clock.now = 10
    with pytest.raises(OverloadedError) as failure:
        await images.set("b", bytes(60), 30)
    assert failure.value.retry_after_s == 20
    assert await images.get("a") == bytes(60)
    await images.set("a", bytes(90), 30)  # replaces itself
    clock.now = 40
    await images.set("b", bytes(60), 30)
    assert await images.get("b") == bytes(60)


async def test_a_store_that_keeps_nothing_gives_no_ids() -> None:
    class Forgetful(MemoryImages):
        async def get(self, key: str) -> bytes | None:
            return None

    with pytest.raises(ServiceUnavailableError):
        await ImageStore(Forgetful(1000), LIMITS, 60).put(pieces(file()))


async def test_a_stored_file_that_is_another_is_not_used() -> None:
    images = MemoryImages(10_000)
    store = ImageStore(images, LIMITS, 60)
    stored = await store.put(pieces(file()))
    await images.set(f"text4seg:image:{stored.id}", file(31), 60)
    with pytest.raises(ImageNotFoundError):
        await store.open(ImageId(stored.id))


@pytest.mark.parametrize("data", [b"", b"no image", file()[:-40], file(200, 200), bytes(20_000)])
async def test_what_is_no_image_of_the_limits_is_not_stored(data: bytes) -> None:
    with pytest.raises(ImageInvalidError):
        await ImageStore(MemoryImages(100_000), LIMITS, 60).put(pieces(data))


async def test_reading_stops_where_the_limit_is_passed() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1000)

    with pytest.raises(ImageInvalidError):
        await ImageStore(MemoryImages(100_000), LIMITS, 60).put(endless())
    assert taken == 11


async def test_addresses_are_not_fetched() -> None:
    with pytest.raises(FeatureUnimplementedError) as failure:
        await ImageStore(MemoryImages(1000), LIMITS, 60).open(ImageUri("file:///etc/passwd"))
    assert failure.value.feature == "image.uri"
