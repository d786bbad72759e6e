"""StreamSegment: the order of its events."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.orchestrator_fakes import (
    FOREVER,
    FakeGenerator,
    FakeRefiner,
    asks_for,
    assert_same,
    mask_of,
)
from tests.segmenting import (
    ANSWERS,
    AUTO,
    CAT,
    events_of,
    names,
    phrases,
    segmenter,
)
from text4seg.errors import (
    PeerUnavailableError,
)
from text4seg.segmentation import (
    CoarseRegions,
    GridRow,
    SegmentAnswer,
)


async def test_the_stream_goes_from_rows_to_coarse_regions_to_the_answer() -> None:
    refiner = FakeRefiner(lambda mask: np.roll(mask, 1, axis=1))
    events = await events_of(segmenter(refiner=refiner), phrases("cat", "dog", options=AUTO))
    kinds = [type(event) for event in events]
    assert kinds == [GridRow] * 8 + [CoarseRegions, SegmentAnswer]
    rows = {(event.descriptor, event.row): event.labels for event in events if isinstance(event, GridRow)}
    assert rows[0, 1] == ("others", "cat", "cat", "others")
    assert rows[1, 0] == ("dog", "others", "others", "others")
    *_, coarse, answer = events
    assert isinstance(coarse, CoarseRegions)
    assert isinstance(answer, SegmentAnswer)
    assert names(coarse.regions) == names(answer.regions) == ["cat", "dog"]
    assert_same(coarse.regions[0].mask, mask_of(CAT))
    assert not coarse.regions[0].refined
    assert answer.regions[0].refined


async def test_rows_come_before_the_model_has_finished() -> None:
    generator = FakeGenerator(asks_for(ANSWERS), released=asyncio.Event())
    stream = segmenter(generator).stream(phrases("cat"), FOREVER)
    waiting = asyncio.ensure_future(anext(stream))
    for _ in range(200):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert generator.released is not None
    generator.released.set()
    first = await waiting
    assert first == GridRow(0, 0, ("others",) * 4)
    assert generator.working == 1
    await stream.aclose()
    assert (generator.working, generator.abandoned) == (0, 1)


async def test_a_failure_ends_the_stream() -> None:
    generator = FakeGenerator(asks_for(ANSWERS), failure=PeerUnavailableError("generator"))
    with pytest.raises(PeerUnavailableError):
        await events_of(segmenter(generator), phrases("cat"))
