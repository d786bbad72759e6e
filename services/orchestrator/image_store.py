"""Images of callers: files that come with a call, and files that were uploaded before."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from services.chassis.byte_cache import ByteCache
from services.chassis.image_file import ImageLimits, read_image, read_size
from services.orchestrator.ports import OpenImage
from text4seg.errors import (
    FeatureUnimplementedError,
    ImageInvalidError,
    ImageNotFoundError,
    OverloadedError,
    ServiceUnavailableError,
)
from text4seg.segmentation import ImageContent, ImageId, ImageSource, ImageUri, StoredImage

_ID_PREFIX = "sha256-"
_DECODERS = 2
"""Uploads that are decoded at the same time: each takes several bytes per pixel meanwhile."""


class ImageStore:
    """Opens images, and keeps uploaded ones under the hash of their content."""

    def __init__(
        self, store: ByteCache, limits: ImageLimits, ttl_s: float, upload_bytes: int = 128 << 20
    ) -> None:
        """Wrap a store.

        Args:
            store: keeps the files. One that evicts early breaks the promise of ``time_to_live``.
            limits: how large an image may be.
            ttl_s: seconds for which an uploaded image is kept.
            upload_bytes: bytes of all uploads under way together, at most.
        """
        self._store = store
        self._limits = limits
        self._ttl_s = ttl_s
        self._upload_bytes = upload_bytes
        self._uploading = 0
        self._decoders = asyncio.Semaphore(_DECODERS)

    async def open(self, source: ImageSource) -> OpenImage:
        """Return a file whose header has been read; its pixels are the generator's to decode.

        Raises:
            ImageInvalidError: it is no image that this server takes.
            ImageNotFoundError: nothing is stored under the id.
            FeatureUnimplementedError: the source is an address: this server fetches none.
        """
        match source:
            case ImageContent(data):
                return await asyncio.to_thread(self._read, data, "image.content")
            case ImageId(image_id):
                stored = await self._store.get(_store_key(image_id))
                if stored is None:
                    raise ImageNotFoundError(image_id)
                opened = await asyncio.to_thread(self._read, stored, "image.id")
                if _ID_PREFIX + opened.digest != image_id:
                    raise ImageNotFoundError(image_id)  # the store was tampered with, or is damaged
                return opened
            case ImageUri():
                raise FeatureUnimplementedError("image.uri")

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredImage:
        """Store an image that comes in pieces.

        Args:
            chunks: pieces of the file in order. Reading stops as soon as they are too many bytes together.

        Raises:
            ImageInvalidError: the file is too large, or no image that can be decoded.
            OverloadedError: the store is full, or the uploads under way are too many bytes together.
            ServiceUnavailableError: the store does not keep it.
        """
        data = bytearray()  # one buffer: what a piece weighs does not depend on how small it is
        held = 0
        try:
            async for chunk in chunks:
                data += chunk
                held += len(chunk)
                self._uploading += len(chunk)
                if held > self._limits.bytes:
                    raise ImageInvalidError("chunk", f"the file has more than {self._limits.bytes} bytes")
                if self._uploading > self._upload_bytes:
                    raise OverloadedError("too many images are being uploaded")
            return await self._keep(data)
        finally:
            self._uploading -= held

    async def _keep(self, data: bytearray) -> StoredImage:
        async with self._decoders:
            file = bytes(data)
            data.clear()
            opened = await asyncio.to_thread(self._read_whole, file)
        image_id = _ID_PREFIX + opened.digest
        key = _store_key(image_id)
        await self._store.set(key, opened.data, self._ttl_s)
        # A store that cannot be reached says nothing, and an id that finds nothing is worth nothing.
        if await self._store.get(key) is None:
            raise ServiceUnavailableError("the image store does not take images now")
        return StoredImage(image_id, opened.size, self._ttl_s)

    def _read(self, data: bytes, field: str) -> OpenImage:
        size = read_size(data, self._limits, field)
        return OpenImage(data, hashlib.sha256(data).hexdigest(), size, field)

    def _read_whole(self, data: bytes) -> OpenImage:
        read_image(data, self._limits, "chunk")  # a damaged file is refused now, not at each later call
        return self._read(data, "chunk")


class MemoryImages:
    """A byte cache in this process that keeps what it took until it expires; full, it refuses more."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an empty store.

        Args:
            max_bytes: bytes of all values together, at most.
            clock: a monotonic clock in seconds.
        """
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # in the order of expiry
        self._size = 0

    async def get(self, key: str) -> bytes | None:
        """Return the value under a key, None when there is none or it has expired."""
        self._expire()
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value; every value must be given the same time to live.

        Raises:
            OverloadedError: there is no room until an older value expires.
        """
        self._expire()
        held = self._entries.get(key)
        if self._size - (len(held[0]) if held else 0) + len(value) > self._max_bytes:
            now = self._clock()
            soonest = min((expiry for _, expiry in self._entries.values()), default=now)
            raise OverloadedError("the image store is full", retry_after_s=max(1.0, soonest - now))
        self._drop(key)
        self._entries[key] = (value, self._clock() + ttl_s)
        self._size += len(value)

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0

    def _expire(self) -> None:
        now = self._clock()
        while self._entries:
            key, (_, expiry) = next(iter(self._entries.items()))
            if expiry > now:
                return
            self._drop(key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry[0])


def _store_key(image_id: str) -> str:
    return f"text4seg:image:{image_id}"
