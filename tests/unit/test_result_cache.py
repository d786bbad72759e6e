"""The result cache: envelopes, modes, and one flight per key."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.byte_cache import MemoryCache
from services.orchestrator.result_cache import (
    CorruptEnvelopeError,
    ResultCache,
    pack_answer,
    unpack_answer,
)
from tests.orchestrator_fakes import cells, mask_of
from text4seg.descriptors import DecodeReport, LabelGrid, Repair, RepairKind
from text4seg.errors import DeadlineExceededError, InternalError
from text4seg.masks import Box
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    DescriptorResult,
    FinishReason,
    Region,
    SegmentAnswer,
    Timing,
    Versions,
    Warning_,
    WarningKind,
)

PICTURE = ".... .aa. .aa. ...."
ANSWER = SegmentAnswer(
    regions=(
        Region(
            label="cat",
            mask=mask_of(PICTURE),
            grid_mask=cells(PICTURE) == 1,
            box=Box(20, 10, 60, 30),
            score=0.75,
            area=800,
            refined=True,
            confidence=np.full((4, 4), 0.2, np.float32),
            refine_score=0.5,
        ),
    ),
    descriptors=(
        DescriptorResult(
            phrase="cat",
            text="text",
            grid=LabelGrid(("others", "cat"), cells(PICTURE)),
            report=DecodeReport((Repair(RepairKind.ROW_SHORT, 1, 2, "why"),), (), truncated=False),
            finish_reason=FinishReason.STOP,
            no_target_score=0.25,
        ),
    ),
    image_size=(40, 80),
    no_target_score=0.25,
    timing=Timing(total_s=0.5, generate_s=0.25),
    cache=CacheOutcome.MISS,
    versions=Versions("m 1", "r-rle", "1", "r 2", "0"),
    warnings=(Warning_(WarningKind.REFINER_DISAGREED, "why"),),
)


def of_score(score: float) -> SegmentAnswer:
    return replace(ANSWER, no_target_score=score)


class Computation:
    """Counts its runs; each waits until it is released."""

    def __init__(
        self, result: Callable[[int], SegmentAnswer | Exception] = lambda run: of_score(run / 8)
    ) -> None:
        self.result = result
        self.runs = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self) -> SegmentAnswer:
        self.runs += 1
        result = self.result(self.runs)
        self.started.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(result, Exception):
            raise result
        return result

    @classmethod
    def immediate(cls, result: Callable[[int], SegmentAnswer | Exception] | None = None) -> Computation:
        made = cls() if result is None else cls(result)
        made.released.set()
        return made


def fetch(
    cache: ResultCache,
    compute: Callable[[], Awaitable[SegmentAnswer]],
    mode: CacheMode = CacheMode.DEFAULT,
    key: str = "key",
    keep: bool = True,
) -> Awaitable[tuple[SegmentAnswer, CacheOutcome]]:
    return cache.fetch(key, mode, compute, lambda answer: keep)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_answer_survives_its_envelope() -> None:
    read = unpack_answer("key", pack_answer("key", ANSWER))
    (region,) = read.regions
    assert region.confidence is not None
    np.testing.assert_allclose(region.confidence, 0.2, atol=1 / 255)
    exact = replace(region, confidence=ANSWER.regions[0].confidence)
    assert replace(read, regions=(exact,)) == ANSWER


@given(st.data())
def test_any_damaged_envelope_is_noticed(data: st.DataObject) -> None:
    envelope = pack_answer("key", ANSWER)
    place = data.draw(st.integers(0, len(envelope) - 1))
    flipped = data.draw(st.integers(1, 255))
    damaged = bytearray(envelope)
    damaged[place] ^= flipped
    with pytest.raises(CorruptEnvelopeError):
        unpack_answer("key", bytes(damaged))
    with pytest.raises(CorruptEnvelopeError):
        unpack_answer("key", envelope[:place])


def test_an_envelope_under_another_key_is_corrupt() -> None:
    with pytest.raises(CorruptEnvelopeError):
        unpack_answer("other", pack_answer("key", ANSWER))


async def test_the_second_call_is_a_hit() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation.immediate()
    first, miss = await fetch(cache, compute)
    second, hit = await fetch(cache, compute)
    assert (miss, hit, compute.runs) == (CacheOutcome.MISS, CacheOutcome.HIT, 1)
    assert second.no_target_score == first.no_target_score


async def test_keys_do_not_share() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation.immediate()
    answers = [await fetch(cache, compute, key=key) for key in ("a", "b", "a")]
    assert [answer.no_target_score for answer, _ in answers] == [1 / 8, 2 / 8, 1 / 8]


async def test_a_corrupt_value_is_a_miss_and_replaced() -> None:
    store = MemoryCache(1 << 20)
    await store.set("key", b"T4SA garbage", 60)
    cache = ResultCache(store, 60)
    compute = Computation.immediate()
    assert (await fetch(cache, compute))[1] is CacheOutcome.MISS
    assert (await fetch(cache, compute))[1] is CacheOutcome.HIT


async def test_bypass_neither_reads_nor_writes() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation.immediate()
    assert (await fetch(cache, compute, CacheMode.BYPASS))[1] is CacheOutcome.BYPASS
    assert (await fetch(cache, compute))[1] is CacheOutcome.MISS
    assert (await fetch(cache, compute, CacheMode.BYPASS))[1] is CacheOutcome.BYPASS
    assert compute.runs == 3


async def test_refresh_computes_anew_and_writes() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation.immediate()
    await fetch(cache, compute)
    assert (await fetch(cache, compute, CacheMode.REFRESH))[1] is CacheOutcome.MISS
    answer, outcome = await fetch(cache, compute)
    assert (answer.no_target_score, outcome) == (2 / 8, CacheOutcome.HIT)


async def test_without_a_store_every_call_computes() -> None:
    compute = Computation.immediate()
    assert (await fetch(ResultCache(None, 60), compute))[1] is CacheOutcome.BYPASS


async def test_an_answer_that_may_not_be_kept_is_not_stored() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation.immediate()
    await fetch(cache, compute, keep=False)
    assert (await fetch(cache, compute))[1] is CacheOutcome.MISS


async def test_identical_calls_share_one_flight() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation()
    calls = [asyncio.ensure_future(fetch(cache, compute)) for _ in range(5)]
    await compute.started.wait()
    compute.released.set()
    answers = await asyncio.gather(*calls)
    assert compute.runs == 1
    assert sorted(outcome for _, outcome in answers) == [CacheOutcome.MISS] + [CacheOutcome.SHARED] * 4
    assert {answer.no_target_score for answer, _ in answers} == {1 / 8}


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_waiter_that_leaves_does_not_cancel_the_others(leaver: int) -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation()
    calls = [asyncio.ensure_future(fetch(cache, compute)) for _ in range(2)]
    await compute.started.wait()
    await settle()
    calls[leaver].cancel()
    await settle()
    compute.released.set()
    assert (await calls[1 - leaver])[0].no_target_score == 1 / 8
    assert (compute.runs, compute.cancelled) == (1, 0)


async def test_the_last_waiter_that_leaves_cancels_the_computation() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation()
    calls = [asyncio.ensure_future(fetch(cache, compute)) for _ in range(2)]
    await compute.started.wait()
    await settle()
    for call in calls:
        call.cancel()
    await settle()
    assert compute.cancelled == 1
    compute.released.set()
    assert (await fetch(cache, compute))[1] is CacheOutcome.MISS  # nobody joins a flight that was given up


async def test_a_failed_flight_fails_all_its_waiters_and_nobody_after() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    compute = Computation(lambda run: InternalError("broken") if run == 1 else of_score(0.5))
    calls = [asyncio.ensure_future(fetch(cache, compute)) for _ in range(3)]
    await compute.started.wait()
    compute.released.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [InternalError] * 3
    assert (await fetch(cache, compute))[0].no_target_score == 0.5


async def test_a_failure_that_nobody_waits_for_goes_unheard() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)

    async def stubborn() -> SegmentAnswer:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise InternalError("at the end") from None
        return ANSWER

    call = asyncio.ensure_future(fetch(cache, stubborn))
    await settle()
    call.cancel()
    await settle()
    gc.collect()  # would report an exception that was never retrieved
    assert call.cancelled()


async def test_a_deadline_of_the_leader_is_not_inherited() -> None:
    cache = ResultCache(MemoryCache(1 << 20), 60)
    hasty = Computation(lambda run: DeadlineExceededError("generate"))
    patient = Computation.immediate(lambda run: of_score(0.5))
    leader = asyncio.ensure_future(fetch(cache, hasty))
    await hasty.started.wait()
    follower = asyncio.ensure_future(fetch(cache, patient))
    await settle()
    assert patient.runs == 0
    hasty.released.set()
    with pytest.raises(DeadlineExceededError):
        await leader
    assert (await follower)[0].no_target_score == 0.5
