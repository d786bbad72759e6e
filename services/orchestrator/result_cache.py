"""The result cache: one computation per key at a time, and answers kept in a byte cache.

A stored value is a versioned envelope around two serialized messages::

    magic "T4SA" | version (1 byte) | checksum (16 bytes) | length of answer (4 bytes) | answer | coarse

``answer`` is a ``SegmentResponse`` with full-size masks as COCO RLE, ``coarse`` a ``Regions`` message with
the same regions' masks on the grid: together they hold what any mask format needs. The checksum covers the
key as well: a value under another answer's key is as corrupt as a damaged one. What cannot be read is a miss.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from google.protobuf.message import DecodeError

from text4seg import wire
from text4seg.errors import DeadlineExceededError, Text4SegError
from text4seg.segmentation import CacheMode, CacheOutcome, MaskFormat, SegmentAnswer
from text4seg.v1 import segmentation_service_pb2 as segmentation_pb2

_LOG = logging.getLogger(__name__)

_MAGIC = b"T4SA"
_VERSION = 1
_HEADER = struct.Struct(">4sB16sI")

Compute = Callable[[], Awaitable[SegmentAnswer]]
Keep = Callable[[SegmentAnswer], bool]


class ByteStore(Protocol):
    """Keeps byte strings for a while; a store that is slow or gone answers None."""

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds."""


class CorruptEnvelopeError(ValueError):
    """A stored value is damaged, of another version, or belongs to another key."""


def pack_answer(key: str, answer: SegmentAnswer) -> bytes:
    """Write an answer, whose regions have both masks, into an envelope."""
    response = wire.segment_answer_to_proto(answer, MaskFormat.COCO_RLE).SerializeToString()
    coarse = segmentation_pb2.Regions(
        regions=[wire.region_to_proto(region, MaskFormat.GRID) for region in answer.regions]
    ).SerializeToString()
    checksum = _checksum(key, response, coarse)
    return _HEADER.pack(_MAGIC, _VERSION, checksum, len(response)) + response + coarse


def unpack_answer(key: str, envelope: bytes) -> SegmentAnswer:
    """Read an answer back.

    Raises:
        CorruptEnvelopeError: the bytes are not what :func:`pack_answer` wrote under this key.
    """
    if len(envelope) < _HEADER.size:
        raise CorruptEnvelopeError("shorter than its header")
    magic, version, checksum, length = _HEADER.unpack_from(envelope)
    if magic != _MAGIC or version != _VERSION:
        raise CorruptEnvelopeError(f"not an envelope of version {_VERSION}")
    response = envelope[_HEADER.size : _HEADER.size + length]
    coarse = envelope[_HEADER.size + length :]
    if checksum != _checksum(key, response, coarse):
        raise CorruptEnvelopeError("the checksum does not match")
    try:
        answer = wire.segment_answer_from_proto(segmentation_pb2.SegmentResponse.FromString(response))
        cells = [
            wire.region_from_proto(region) for region in segmentation_pb2.Regions.FromString(coarse).regions
        ]
        # Full-size masks stay run lengths: that is what most callers take them as.
        regions = tuple(
            cell if (rle := region.rle) is None else cell.with_rle(rle)
            for region, cell in zip(answer.regions, cells, strict=True)
        )
    except (DecodeError, Text4SegError, ValueError) as error:
        raise CorruptEnvelopeError(str(error)) from error
    return replace(answer, regions=regions)


def _checksum(key: str, response: bytes, coarse: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (key.encode(), response, coarse):
        digest.update(struct.pack(">Q", len(part)))
        digest.update(part)
    return digest.digest()


@dataclass(slots=True)
class _Flight:
    """One computation under way, and how many callers wait for it."""

    task: asyncio.Task[tuple[SegmentAnswer, CacheOutcome]]
    waiters: int = 0


class ResultCache:
    """Answers in a byte store, with a single flight per key."""

    def __init__(self, store: ByteStore | None, ttl_s: float) -> None:
        """Wrap a store.

        Args:
            store: where envelopes are kept; None computes every answer.
            ttl_s: seconds for which an answer is kept.
        """
        self._store = store
        self._ttl_s = ttl_s
        self._flights: dict[tuple[str, bool], _Flight] = {}
        # The event loop holds tasks weakly: this keeps those that nobody waits for until they have ended.
        self._tasks: set[asyncio.Task[tuple[SegmentAnswer, CacheOutcome]]] = set()

    async def fetch(
        self, key: str, mode: CacheMode, compute: Compute, keep: Keep
    ) -> tuple[SegmentAnswer, CacheOutcome]:
        """Return the answer under a key and where it came from.

        Callers with the same key share one computation. It goes on while at least one of them waits, and
        its failure fails all of them. Only a deadline is not shared: a caller with time left starts again
        when the call that it had joined ran out of its own.

        Args:
            key: names everything that the answer depends on.
            mode: BYPASS neither reads, writes nor shares; REFRESH does not read.
            compute: makes the answer; cancelled when nobody waits any more.
            keep: says whether a computed answer may be stored.

        Raises:
            Text4SegError: whatever ``compute`` raises.
        """
        if self._store is None or mode is CacheMode.BYPASS:
            return await compute(), CacheOutcome.BYPASS
        flight_key = (key, mode is CacheMode.REFRESH)
        while True:
            flight = self._flights.get(flight_key)
            joined = flight is not None
            if flight is None:
                flight = self._start(flight_key, self._run(self._store, key, mode, compute, keep))
            try:
                answer, outcome = await self._wait(flight_key, flight)
            except DeadlineExceededError:
                if not joined:
                    raise
                continue
            if joined and outcome is CacheOutcome.MISS:
                outcome = CacheOutcome.SHARED
            return answer, outcome

    def _start(
        self,
        flight_key: tuple[str, bool],
        work: Awaitable[tuple[SegmentAnswer, CacheOutcome]],
    ) -> _Flight:
        flight = _Flight(asyncio.ensure_future(work))
        self._flights[flight_key] = flight
        self._tasks.add(flight.task)

        def landed(task: asyncio.Task[tuple[SegmentAnswer, CacheOutcome]]) -> None:
            self._tasks.discard(task)
            self._forget(flight_key, flight)
            if not task.cancelled():
                task.exception()  # retrieved even when every waiter has left

        flight.task.add_done_callback(landed)
        return flight

    async def _wait(
        self, flight_key: tuple[str, bool], flight: _Flight
    ) -> tuple[SegmentAnswer, CacheOutcome]:
        flight.waiters += 1
        try:
            await asyncio.wait({flight.task})  # unlike awaiting the task, does not pass cancellation on to it
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._forget(flight_key, flight)  # nobody may join a flight that is being cancelled
                flight.task.cancel()
        return flight.task.result()

    def _forget(self, flight_key: tuple[str, bool], flight: _Flight) -> None:
        if self._flights.get(flight_key) is flight:
            del self._flights[flight_key]

    async def _run(
        self, store: ByteStore, key: str, mode: CacheMode, compute: Compute, keep: Keep
    ) -> tuple[SegmentAnswer, CacheOutcome]:
        if mode is CacheMode.DEFAULT and (found := await self._read(store, key)) is not None:
            return found, CacheOutcome.HIT
        answer = await compute()
        if keep(answer):
            await store.set(key, await asyncio.to_thread(pack_answer, key, answer), self._ttl_s)
        return answer, CacheOutcome.MISS

    async def _read(self, store: ByteStore, key: str) -> SegmentAnswer | None:
        envelope = await store.get(key)
        if envelope is None:
            return None
        try:
            return await asyncio.to_thread(unpack_answer, key, envelope)
        except CorruptEnvelopeError as error:
            _LOG.warning("a cached answer could not be read: %s", error)
            return None
