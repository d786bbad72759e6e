"""Detect, driven through small fakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.chassis.byte_cache import MemoryCache
from services.orchestrator.detect import Detector
from services.orchestrator.refinement import Refinement
from services.orchestrator.result_cache import ResultCache
from services.orchestrator.segment import Segmenter
from tests.orchestrator_fakes import (
    FOREVER,
    SIZE,
    FakeGenerator,
    FakeImages,
    FakeRefiner,
    asks_for,
    description,
)
from text4seg.masks import Box
from text4seg.segmentation import (
    CacheOutcome,
    DetectRequest,
    ImageContent,
    PhraseQuery,
    RefineMode,
    SegmentOptions,
    SegmentRequest,
)

ANSWERS = {
    "cat": description(".... .aa. .aa. ....", "cat"),
    "dog": description("a... .... .... ..aa", "dog"),
    "unicorn": description(".... .... .... ....", "unicorn"),
}


def use_cases(refiner: FakeRefiner) -> tuple[FakeGenerator, Segmenter, Detector]:
    generator = FakeGenerator(asks_for(ANSWERS))
    cache = ResultCache(MemoryCache(1 << 20), 60)
    segmenter = Segmenter(FakeImages(), generator, Refinement(refiner, 0.3), cache)
    return generator, segmenter, Detector(segmenter)


def request(*phrases: str) -> DetectRequest:
    return DetectRequest(ImageContent(b"image"), PhraseQuery(phrases))


async def test_a_detection_is_the_tight_box_of_a_coarse_region() -> None:
    refiner = FakeRefiner()
    _, segmenter, detector = use_cases(refiner)
    answer = await detector.answer(request("dog", "cat"), FOREVER)
    assert [(found.label, found.box) for found in answer.detections] == [
        ("dog", Box(0, 0, 80, 40)),
        ("cat", Box(20, 10, 60, 30)),
    ]
    assert answer.image_size == SIZE
    assert refiner.requests == []
    same = SegmentRequest(
        ImageContent(b"image"), PhraseQuery(("dog", "cat")), SegmentOptions(refine=RefineMode.NONE)
    )
    regions = (await segmenter.answer(same, FOREVER)).regions
    assert [found.score for found in answer.detections] == pytest.approx([region.score for region in regions])


async def test_boxes_are_refined_when_asked_for() -> None:
    _, _, detector = use_cases(FakeRefiner(lambda mask: np.roll(mask, 3, axis=1)))
    asked = request("cat")
    asked = replace(asked, options=replace(asked.options, refine=RefineMode.REQUIRED))
    answer = await detector.answer(asked, FOREVER)
    assert [found.box for found in answer.detections] == [Box(23, 10, 63, 30)]


async def test_splitting_gives_a_box_for_each_component() -> None:
    _, _, detector = use_cases(FakeRefiner())
    asked = request("dog")
    asked = replace(asked, options=replace(asked.options, split_instances=True))
    answer = await detector.answer(asked, FOREVER)
    assert {found.box for found in answer.detections} == {Box(0, 0, 20, 10), Box(40, 30, 80, 40)}


async def test_nothing_there_is_an_answer_without_boxes() -> None:
    _, _, detector = use_cases(FakeRefiner())
    answer = await detector.answer(request("unicorn"), FOREVER)
    assert answer.detections == ()
    assert answer.no_target_score > 0.5


async def test_detect_and_segment_share_the_cache() -> None:
    generator, segmenter, detector = use_cases(FakeRefiner())
    segment = SegmentRequest(
        ImageContent(b"image"), PhraseQuery(("cat",)), SegmentOptions(refine=RefineMode.NONE)
    )
    await segmenter.answer(segment, FOREVER)
    answer = await detector.answer(request("cat"), FOREVER)
    assert answer.cache is CacheOutcome.HIT
    assert len(generator.requests) == 1
