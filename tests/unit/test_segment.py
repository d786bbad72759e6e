"""Segment, driven through small fakes: what an answer holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.orchestrator_fakes import (
    FOREVER,
    SHAPE,
    SIZE,
    FakeGenerator,
    FakeRefiner,
    asks_for,
    assert_same,
    cells,
    description,
    mask_of,
)
from tests.segmenting import (
    ANSWERS,
    CAT,
    COARSE,
    REQUIRED,
    asking,
    events_of,
    names,
    phrases,
    segmenter,
)
from text4seg.dialogue import conditioned_question, open_question, referring_question
from text4seg.masks import Box
from text4seg.scores import Calibration, Calibrations, region_score
from text4seg.segmentation import (
    CacheOutcome,
    GridRow,
    LabelQuery,
    OpenQuery,
    SegmentOptions,
)


async def test_a_phrase_gets_its_region() -> None:
    answer = await segmenter().answer(phrases("cat"), FOREVER)
    (region,) = answer.regions
    assert region.label == "cat"
    assert_same(region.mask, mask_of(CAT))
    assert_same(region.grid_mask, cells(CAT) == 1)
    assert region.box == Box(20, 10, 60, 30)
    assert region.area == 40 * 20
    assert 0 < region.score < 1
    assert not region.refined
    assert region.refine_score is None
    assert region.confidence is None
    assert answer.image_size == SIZE
    assert answer.descriptors[0].phrase == "cat"
    assert answer.descriptors[0].text == ANSWERS["cat"]
    assert answer.no_target_score == answer.descriptors[0].no_target_score < 0.5
    assert answer.cache is CacheOutcome.BYPASS
    assert answer.versions.model == "fake 1"
    assert answer.versions.refiner == ""
    assert answer.warnings == ()
    assert answer.timing.refine_s is None
    assert answer.timing.generate_s is not None


async def test_a_surer_model_gives_a_higher_score() -> None:
    scores = []
    for probability in (0.6, 0.9, 0.99):
        generator = FakeGenerator(asks_for(ANSWERS), logprob=math.log(probability))
        answer = await segmenter(generator).answer(phrases("cat"), FOREVER)
        scores.append(answer.regions[0].score)
    assert scores == sorted(scores)
    assert len(set(scores)) == 3


async def test_cells_regions_and_nothing_there_have_calibrations_of_their_own() -> None:
    generator = FakeGenerator(asks_for(ANSWERS), logprob=math.log(0.9))

    async def answered(calibration: Calibrations) -> tuple[float, float, float]:
        generator.description = replace(generator.description, calibration=calibration)
        asked = phrases("cat", options=SegmentOptions(confidence_map=True))
        answer = await segmenter(generator).answer(asked, FOREVER)
        region = answer.regions[0]
        assert region.confidence is not None
        return float(region.confidence.max()), region.score, answer.no_target_score

    cells, regions, nothing = await answered(Calibrations())
    less = Calibration(bias=-1.0)
    assert await answered(Calibrations(cells=less)) == (pytest.approx(0.768, abs=1e-3), regions, nothing)
    assert cells == pytest.approx(0.9)
    modest = await answered(Calibrations(regions=less))
    assert (modest[0], modest[2]) == (cells, nothing)
    assert modest[1] < regions
    found = await answered(Calibrations(nothing=less))
    assert found[:2] == (cells, regions)
    assert found[2] < nothing


async def test_nothing_there_is_an_answer_without_regions() -> None:
    refiner = FakeRefiner()
    answer = await segmenter(refiner=refiner).answer(phrases("unicorn", options=REQUIRED), FOREVER)
    assert answer.regions == ()
    assert answer.no_target_score > 0.5
    assert refiner.requests == []
    assert answer.timing.refine_s is None


async def test_each_phrase_costs_one_question_about_the_same_bytes() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    answer = await segmenter(generator).answer(phrases("dog", "unicorn", "cat"), FOREVER)
    assert names(answer.regions) == ["dog", "cat"]
    assert [descriptor.phrase for descriptor in answer.descriptors] == ["dog", "unicorn", "cat"]
    assert answer.no_target_score == min(one.no_target_score for one in answer.descriptors)
    asked = {request.turns[0].text: request for request in generator.requests}
    assert set(asked) == {referring_question(phrase) for phrase in ("dog", "unicorn", "cat")}
    assert {request.image for request in generator.requests} == {b"image"}
    assert all(request.logprobs for request in generator.requests)


async def test_a_repeated_phrase_is_computed_once_and_answered_each_time() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    refiner = FakeRefiner()
    use_case = segmenter(generator, refiner)
    request = phrases("cat", "dog", "cat", options=REQUIRED)
    answer = await use_case.answer(request, FOREVER)
    assert names(answer.regions) == ["cat", "dog", "cat"]
    assert answer.regions[0] == answer.regions[2]
    assert len(answer.descriptors) == 3
    assert len(generator.requests) == 2
    assert [len(refine.coarse) for refine in refiner.requests] == [2]
    rows = [event for event in await events_of(use_case, request) if isinstance(event, GridRow)]
    assert [row.row for row in rows if row.descriptor == 2] == [0, 1, 2, 3]


async def test_questions_run_at_the_same_time_within_the_bound() -> None:
    generator = FakeGenerator(lambda request: description(CAT, *request.constraint.labels))  # type: ignore[union-attr]
    await segmenter(generator, phrase_concurrency=3).answer(phrases(*"abcdefgh"), FOREVER)
    assert len(generator.requests) == 8
    assert generator.most_working == 3


async def test_a_label_list_costs_one_constrained_question() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    answer = await segmenter(generator).answer(asking(LabelQuery(("sky", "road"))), FOREVER)
    assert names(answer.regions) == ["sky", "road"]
    (request,) = generator.requests
    assert request.turns[0].text == conditioned_question(("sky", "road"))
    assert request.constraint is not None
    assert request.constraint.labels == ("sky", "road")
    assert [descriptor.phrase for descriptor in answer.descriptors] == [""]


async def test_open_vocabulary_names_what_the_model_names() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    answer = await segmenter(generator).answer(asking(OpenQuery()), FOREVER)
    assert set(names(answer.regions)) == {"tree", "car"}
    scores = [region.score for region in answer.regions]
    assert scores == sorted(scores, reverse=True)
    (request,) = generator.requests
    assert request.turns[0].text == open_question()
    assert request.constraint is not None
    assert request.constraint.labels == ()


async def test_splitting_makes_a_region_of_every_component() -> None:
    answer = await segmenter().answer(phrases("dog", options=replace(COARSE, split_instances=True)), FOREVER)
    assert sorted(region.box for region in answer.regions) == [Box(0, 0, 20, 10), Box(40, 30, 80, 40)]
    assert all(region.split for region in answer.regions)
    scores = [region.score for region in answer.regions]
    assert scores == sorted(scores, reverse=True)


async def test_low_scores_are_left_out_before_they_are_refined() -> None:
    refiner = FakeRefiner()
    options = replace(REQUIRED, min_score=0.99)
    answer = await segmenter(refiner=refiner).answer(phrases("cat", options=options), FOREVER)
    assert answer.regions == ()
    assert refiner.requests == []


async def test_the_confidence_map_comes_when_asked_for() -> None:
    answer = await segmenter().answer(phrases("cat", options=replace(COARSE, confidence_map=True)), FOREVER)
    confidence = answer.regions[0].confidence
    assert confidence is not None
    assert confidence.shape == SHAPE
    assert confidence.dtype == np.float32
    inside = cells(CAT) == 1
    expected = region_score(confidence.astype(float), inside, inside)
    assert answer.regions[0].score == pytest.approx(expected)
    assert confidence[inside].min() > confidence[~inside].max()


async def test_an_image_smaller_than_the_grid_keeps_its_regions() -> None:
    answer = await segmenter(size=(1, 2)).answer(phrases("dog"), FOREVER)
    assert answer.regions[0].area >= 1
