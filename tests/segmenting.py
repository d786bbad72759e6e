"""Segmenters over the fakes, and what the tests ask of them."""

from __future__ import annotations

from collections.abc import Sequence

from services.chassis.byte_cache import MemoryCache
from services.orchestrator.ports import Generator, Refiner
from services.orchestrator.refinement import Refinement
from services.orchestrator.result_cache import ResultCache
from services.orchestrator.segment import Segmenter
from tests.orchestrator_fakes import (
    FOREVER,
    SIZE,
    FakeGenerator,
    FakeImages,
    asks_for,
    description,
)
from text4seg.segmentation import (
    ImageContent,
    PhraseQuery,
    Query,
    RefineMode,
    Region,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
)

CAT = ".... .aa. .aa. ...."
DOG = "a... .... .... ..aa"
NOTHING = ".... .... .... ...."
ANSWERS = {
    "cat": description(CAT, "cat"),
    "dog": description(DOG, "dog"),
    "unicorn": description(NOTHING, "unicorn"),
    "sky|road": description("aaaa aaaa ..bb bbbb", "sky", "road"),
    "": description("aaaa .... ..bb ..bb", "tree", "car"),
}
COARSE = SegmentOptions(refine=RefineMode.NONE)
AUTO = SegmentOptions(refine=RefineMode.AUTO)
REQUIRED = SegmentOptions(refine=RefineMode.REQUIRED)


def segmenter(
    generator: Generator | None = None,
    refiner: Refiner | None = None,
    store: MemoryCache | None = None,
    size: tuple[int, int] = SIZE,
    min_agreement: float = 0.3,
    phrase_concurrency: int = 4,
) -> Segmenter:
    return Segmenter(
        FakeImages(size),
        generator or FakeGenerator(asks_for(ANSWERS)),
        Refinement(refiner, min_agreement),
        ResultCache(store, 60),
        phrase_concurrency=phrase_concurrency,
    )


def phrases(*texts: str, options: SegmentOptions = COARSE) -> SegmentRequest:
    return SegmentRequest(ImageContent(b"image"), PhraseQuery(texts), options)


def asking(query: Query, options: SegmentOptions = COARSE) -> SegmentRequest:
    return SegmentRequest(ImageContent(b"image"), query, options)


def names(regions: Sequence[Region]) -> list[str]:
    return [region.label for region in regions]


async def events_of(use_case: Segmenter, request: SegmentRequest) -> list[SegmentEvent]:
    return [event async for event in use_case.stream(request, FOREVER)]
