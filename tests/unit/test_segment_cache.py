"""Segment with a cache: what is answered again, and what anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.chassis.byte_cache import MemoryCache
from tests.orchestrator_fakes import (
    FOREVER,
    FakeGenerator,
    FakeRefiner,
    asks_for,
    assert_same,
    description,
    of_version,
)
from tests.segmenting import (
    ANSWERS,
    AUTO,
    COARSE,
    REQUIRED,
    asking,
    events_of,
    phrases,
    segmenter,
)
from text4seg.errors import (
    PeerUnavailableError,
)
from text4seg.segmentation import (
    CacheOutcome,
    CoarseRegions,
    GridRow,
    ImageContent,
    LabelQuery,
    MaskFormat,
    PhraseQuery,
    SegmentAnswer,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
)


async def test_a_cached_answer_streams_its_rows_and_coarse_regions_too() -> None:
    store = MemoryCache(1 << 20)
    generator = FakeGenerator(asks_for(ANSWERS))
    refiner = FakeRefiner(lambda mask: np.roll(mask, 1, axis=1))
    use_case = segmenter(generator, refiner, store)
    first = await events_of(use_case, phrases("cat", "dog", options=AUTO))
    again = await events_of(use_case, phrases("cat", "dog", options=AUTO))
    assert len(generator.requests) == 2

    def by_place(events: list[SegmentEvent]) -> set[GridRow]:
        return {event for event in events if isinstance(event, GridRow)}

    assert by_place(again) == by_place(first)
    assert again[-2] == approx_scores(first[-2])
    answer = again[-1]
    assert isinstance(answer, SegmentAnswer)
    assert answer.cache is CacheOutcome.HIT
    assert answer.timing.generate_s is None
    assert answer.timing.cache_s is not None


class approx_scores:  # noqa: N801 - reads like pytest.approx
    """Equal to coarse regions whose scores differ by no more than float32 does."""

    def __init__(self, event: SegmentEvent) -> None:
        assert isinstance(event, CoarseRegions)
        self.regions = event.regions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoarseRegions) and all(
            replace(one, score=0.0) == replace(two, score=0.0) and one.score == pytest.approx(two.score)
            for one, two in zip(self.regions, other.regions, strict=True)
        )


async def test_a_hit_serves_every_mask_format_and_the_confidence_map() -> None:
    use_case = segmenter(store=MemoryCache(1 << 20))
    first = await use_case.answer(phrases("cat"), FOREVER)
    options = replace(COARSE, mask_format=MaskFormat.GRID, confidence_map=True, seed=9)
    second = await use_case.answer(phrases("cat", options=options), FOREVER)
    assert (first.cache, second.cache) == (CacheOutcome.MISS, CacheOutcome.HIT)
    assert_same(second.regions[0].mask, first.regions[0].mask)
    assert_same(second.regions[0].grid_mask, first.regions[0].grid_mask)
    assert first.regions[0].confidence is None
    assert second.regions[0].confidence is not None


@pytest.mark.parametrize(
    "options",
    [
        replace(AUTO, min_score=0.1),
        replace(AUTO, split_instances=True),
        replace(AUTO, strict=True),
        replace(AUTO, seed=1),
        replace(AUTO, refiner_model="other"),
        REQUIRED,
        COARSE,
    ],
)
async def test_options_that_change_the_answer_are_answered_anew(options: SegmentOptions) -> None:
    use_case = segmenter(refiner=FakeRefiner(), store=MemoryCache(1 << 20))
    await use_case.answer(phrases("cat", options=AUTO), FOREVER)
    assert (await use_case.answer(phrases("cat", options=options), FOREVER)).cache is CacheOutcome.MISS


async def test_another_query_image_or_model_is_answered_anew() -> None:
    generator = FakeGenerator(
        asks_for(ANSWERS | {"cat|dog": description("a... ...b .... ....", "cat", "dog")})
    )
    refiner = FakeRefiner()
    use_case = segmenter(generator, refiner, MemoryCache(1 << 20))
    await use_case.answer(phrases("cat", "dog", options=AUTO), FOREVER)
    others = [
        phrases("dog", "cat", options=AUTO),
        asking(LabelQuery(("cat", "dog")), AUTO),
        SegmentRequest(ImageContent(b"another"), PhraseQuery(("cat", "dog")), AUTO),
    ]
    for other in others:
        assert (await use_case.answer(other, FOREVER)).cache is CacheOutcome.MISS
    generator.description = of_version("2")
    assert (await use_case.answer(others[0], FOREVER)).cache is CacheOutcome.MISS
    assert refiner.description is not None
    refiner.description = replace(refiner.description, version="8")
    assert (await use_case.answer(others[0], FOREVER)).cache is CacheOutcome.MISS
    refiner.description = replace(refiner.description, versions=("8", "2"))  # of the model "other"
    assert (await use_case.answer(others[0], FOREVER)).cache is CacheOutcome.MISS
    assert (await use_case.answer(others[0], FOREVER)).cache is CacheOutcome.HIT


async def test_an_answer_that_the_refiner_failed_is_not_kept() -> None:
    refiner = FakeRefiner(failure=PeerUnavailableError("refiner"))
    use_case = segmenter(refiner=refiner, store=MemoryCache(1 << 20))
    await use_case.answer(phrases("cat", options=AUTO), FOREVER)
    refiner.failure = None
    answer = await use_case.answer(phrases("cat", options=AUTO), FOREVER)
    assert answer.cache is CacheOutcome.MISS
    assert answer.regions[0].refined


async def test_an_answer_by_an_unknown_refiner_is_not_kept() -> None:
    class Reviving(FakeRefiner):
        """Cannot be reached when it is asked what it is, and works when it is called."""

        async def refine(self, request, budget):  # type: ignore[no-untyped-def]
            self.description = FakeRefiner().description
            return await FakeRefiner().refine(request, budget)

    refiner = Reviving(failure=PeerUnavailableError("refiner"), description=None)
    store = MemoryCache(1 << 20)
    answer = await segmenter(refiner=refiner, store=store).answer(phrases("cat", options=AUTO), FOREVER)
    assert answer.regions[0].refined
    assert store.size == 0


async def test_identical_calls_at_the_same_time_ask_once() -> None:
    generator = FakeGenerator(asks_for(ANSWERS), released=asyncio.Event())
    use_case = segmenter(generator, store=MemoryCache(1 << 20))
    calls = [asyncio.ensure_future(events_of(use_case, phrases("cat"))) for _ in range(3)]
    while not generator.working:
        await asyncio.sleep(0)
    assert generator.released is not None
    generator.released.set()
    streams = await asyncio.gather(*calls)
    outcomes = [events[-1].cache for events in streams if isinstance(events[-1], SegmentAnswer)]
    assert sorted(outcomes) == [CacheOutcome.MISS, CacheOutcome.SHARED, CacheOutcome.SHARED]
    assert len(generator.requests) == 1
    assert [len(events) for events in streams] == [6, 6, 6]
