"""Segment with a refiner: whose mask is answered, and what happens when the refiner fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.chassis.deadline import Deadline
from services.orchestrator.ports import Refiner
from services.orchestrator.refinement import AUTO_SHARE
from tests.orchestrator_fakes import (
    FOREVER,
    REFINER,
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
    AUTO,
    CAT,
    REQUIRED,
    asking,
    phrases,
    segmenter,
)
from text4seg.errors import (
    DeadlineExceededError,
    ImageInvalidError,
    InternalError,
    OptionInvalidError,
    OverloadedError,
    PeerUnavailableError,
)
from text4seg.masks import Box
from text4seg.segmentation import (
    CacheMode,
    LabelQuery,
    WarningKind,
)


async def test_refined_masks_take_the_place_of_coarse_ones() -> None:
    refiner = FakeRefiner(lambda mask: np.roll(mask, 1, axis=1))
    request = phrases("cat", options=replace(REQUIRED, seed=5, refiner_model="other"))
    answer = await segmenter(refiner=refiner).answer(request, FOREVER)
    (region,) = answer.regions
    assert_same(region.mask, np.roll(mask_of(CAT), 1, axis=1))
    assert_same(region.grid_mask, cells(CAT) == 1)
    assert region.box == Box(21, 10, 61, 30)
    assert region.refined
    assert region.refine_score == 0.8
    assert answer.versions.refiner == "other"
    assert answer.timing.refine_s is not None
    (refine,) = refiner.requests
    assert (refine.image, refine.seed, refine.model) == (b"image", 5, "other")
    assert_same(refine.coarse[0], (cells(CAT) == 1).astype(np.float32))


async def test_another_refiner_is_named_with_its_own_version() -> None:
    refiner = FakeRefiner(description=replace(REFINER, versions=("7", "3")))
    asked = phrases("cat", options=replace(REQUIRED, refiner_model="other"))
    assert (await segmenter(refiner=refiner).answer(asked, FOREVER)).versions.refiner == "other 3"


async def test_the_default_refiner_is_named_with_its_version() -> None:
    answer = await segmenter(refiner=FakeRefiner()).answer(phrases("cat", options=AUTO), FOREVER)
    assert answer.versions.refiner == "fake-refiner 7"


@pytest.mark.parametrize(
    "failure",
    [
        PeerUnavailableError("refiner"),
        OverloadedError("full"),
        InternalError("secret"),
        DeadlineExceededError("x"),
    ],
)
async def test_auto_answers_coarse_when_the_refiner_fails(failure: Exception) -> None:
    refiner = FakeRefiner(failure=failure)  # type: ignore[arg-type]
    answer = await segmenter(refiner=refiner).answer(phrases("cat", options=AUTO), FOREVER)
    assert not answer.regions[0].refined
    assert_same(answer.regions[0].mask, mask_of(CAT))
    assert [warning.kind for warning in answer.warnings] == [WarningKind.REFINER_FAILED]
    assert "secret" not in answer.warnings[0].message
    assert answer.versions.refiner == ""


async def test_auto_answers_coarse_when_there_is_no_refiner() -> None:
    answer = await segmenter().answer(phrases("cat", options=AUTO), FOREVER)
    assert [warning.kind for warning in answer.warnings] == [WarningKind.REFINER_FAILED]


@pytest.mark.parametrize("refiner", [None, FakeRefiner(failure=PeerUnavailableError("refiner"))])
async def test_required_fails_when_the_refiner_fails(refiner: Refiner | None) -> None:
    with pytest.raises(PeerUnavailableError):
        await segmenter(refiner=refiner).answer(phrases("cat", options=REQUIRED), FOREVER)


async def test_required_fails_when_a_refined_mask_is_empty() -> None:
    with pytest.raises(InternalError):
        await segmenter(refiner=FakeRefiner(np.zeros_like)).answer(phrases("cat", options=REQUIRED), FOREVER)


async def test_an_unknown_model_is_the_callers_fault_and_no_failure_of_the_refiner() -> None:
    refiner = FakeRefiner(failure=OptionInvalidError("model", "bad"))
    for options in (AUTO, REQUIRED):
        with pytest.raises(OptionInvalidError) as failure:
            await segmenter(refiner=refiner).answer(phrases("cat", options=options), FOREVER)
        assert failure.value.field == "options.refiner_model"


async def test_a_refiner_that_refuses_the_image_only_degrades_auto() -> None:
    refiner = FakeRefiner(failure=ImageInvalidError("image", "too many pixels for this refiner"))
    answer = await segmenter(refiner=refiner).answer(phrases("cat", options=AUTO), FOREVER)
    assert not answer.regions[0].refined
    assert [warning.kind for warning in answer.warnings] == [WarningKind.REFINER_FAILED]
    with pytest.raises(ImageInvalidError) as failure:
        await segmenter(refiner=refiner).answer(phrases("cat", options=REQUIRED), FOREVER)
    assert failure.value.field == "image.content"


async def test_what_the_refiner_finds_wrong_with_our_own_part_is_internal() -> None:
    refiner = FakeRefiner(failure=OptionInvalidError("coarse[0]", "bad"))
    with pytest.raises(InternalError):
        await segmenter(refiner=refiner).answer(phrases("cat", options=REQUIRED), FOREVER)


async def test_auto_drops_masks_that_disagree() -> None:
    for refiner in (FakeRefiner(agreement=0.29), FakeRefiner(np.zeros_like, agreement=1.0)):
        answer = await segmenter(refiner=refiner).answer(phrases("cat", options=AUTO), FOREVER)
        assert not answer.regions[0].refined
        assert [warning.kind for warning in answer.warnings] == [WarningKind.REFINER_DISAGREED]


async def test_required_takes_masks_that_disagree() -> None:
    answer = await segmenter(refiner=FakeRefiner(agreement=0.0)).answer(
        phrases("cat", options=REQUIRED), FOREVER
    )
    assert answer.regions[0].refined
    assert answer.warnings == ()


async def test_refined_labels_of_a_list_do_not_overlap() -> None:
    everything = FakeRefiner(np.ones_like)
    answer = await segmenter(refiner=everything).answer(
        asking(LabelQuery(("sky", "road")), replace(AUTO, cache=CacheMode.BYPASS)), FOREVER
    )
    (region,) = answer.regions  # the other one lost all of its pixels
    assert region.area == SIZE[0] * SIZE[1]
    assert [warning.kind for warning in answer.warnings] == [WarningKind.REFINER_DISAGREED]

    grown = FakeRefiner(lambda mask: mask | np.roll(mask, 5, axis=0) | np.roll(mask, -5, axis=0))
    answer = await segmenter(refiner=grown).answer(asking(LabelQuery(("sky", "road")), AUTO), FOREVER)
    first, second = answer.regions
    assert first.mask is not None
    assert second.mask is not None
    assert not (first.mask & second.mask).any()
    for region in answer.regions:
        assert region.mask is not None
        assert region.area == np.count_nonzero(region.mask)
    better = max(answer.regions, key=lambda region: region.score)
    letter = {"sky": "a", "road": "b"}[better.label]
    coarse = mask_of("aaaa aaaa ..bb bbbb", letter)
    assert_same(better.mask, grown.change(coarse))


async def test_phrases_may_overlap() -> None:
    answers = asks_for({"cat": description(CAT, "cat"), "pet": description(CAT, "pet")})
    answer = await segmenter(FakeGenerator(answers), FakeRefiner()).answer(
        phrases("cat", "pet", options=AUTO), FOREVER
    )
    assert_same(answer.regions[0].mask, answer.regions[1].mask)


async def test_an_unknown_refiner_model_is_refused_before_anything_is_written() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    with pytest.raises(OptionInvalidError) as failure:
        await segmenter(generator, FakeRefiner()).answer(
            phrases("cat", options=replace(AUTO, refiner_model="nope")), FOREVER
        )
    assert failure.value.field == "options.refiner_model"
    assert "fake-refiner, other" in failure.value.description
    assert generator.requests == []


async def test_auto_leaves_time_to_deliver_the_coarse_answer() -> None:
    refiner = FakeRefiner()
    now = 100.0
    budget = Deadline(expires_at=110.0, clock=lambda: now)
    await segmenter(refiner=refiner).answer(phrases("cat", options=AUTO), budget)
    await segmenter(refiner=refiner).answer(phrases("cat", options=REQUIRED), budget)
    assert refiner.timeouts == [pytest.approx(10 * AUTO_SHARE), pytest.approx(10)]
