"""Segment and StreamSegment, driven through small fakes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from services.chassis.byte_cache import MemoryCache
from services.chassis.deadline import Deadline
from services.orchestrator.ports import Generator, Refiner
from services.orchestrator.refinement import AUTO_SHARE, Refinement
from services.orchestrator.result_cache import ResultCache
from services.orchestrator.segment import Segmenter
from tests.orchestrator_fakes import (
    FOREVER,
    REFINER,
    SHAPE,
    SIZE,
    FakeGenerator,
    FakeImages,
    FakeRefiner,
    asks_for,
    assert_same,
    cells,
    description,
    mask_of,
    of_version,
)
from text4seg.dialogue import answer_text, conditioned_question, open_question, referring_question
from text4seg.errors import (
    DeadlineExceededError,
    DescriptorMalformedError,
    ImageInvalidError,
    InternalError,
    OptionInvalidError,
    OverloadedError,
    PeerUnavailableError,
    QueryInvalidError,
)
from text4seg.grammar import DescriptorGrammar
from text4seg.masks import Box
from text4seg.scores import Calibration
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    CoarseRegions,
    FinishReason,
    GridRow,
    ImageContent,
    LabelQuery,
    MaskFormat,
    OpenQuery,
    PhraseQuery,
    Query,
    RefineMode,
    Region,
    SegmentAnswer,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
    WarningKind,
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


async def test_the_models_calibration_applies() -> None:
    generator = FakeGenerator(asks_for(ANSWERS))
    plain = await segmenter(generator).answer(phrases("cat"), FOREVER)
    generator.description = replace(generator.description, calibration=Calibration(bias=-3.0))
    doubtful = await segmenter(generator).answer(phrases("cat"), FOREVER)
    assert doubtful.regions[0].score < plain.regions[0].score


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
    assert confidence[inside].mean() == pytest.approx(answer.regions[0].score)
    assert confidence[inside].min() > confidence[~inside].max()


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


@pytest.mark.parametrize("peers_field", ["turns[0].text", "constraint.labels[0]"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        (PhraseQuery(("cat", "cat", "dog")), "query.phrases.phrases[2]"),
        (LabelQuery(("sky", "dog")), "query.labels.labels"),
        (OpenQuery(), "query"),
    ],
)
async def test_what_the_generator_refuses_is_named_as_the_caller_does(
    query: Query, field: str, peers_field: str
) -> None:
    class Choosy(FakeGenerator):
        """Cannot stand dogs."""

        async def generate(self, request, budget):  # type: ignore[no-untyped-def]
            if "only the cat" not in request.turns[0].text:
                raise QueryInvalidError(peers_field, "holds a dog")
            async for chunk in super().generate(request, budget):
                yield chunk

    with pytest.raises(QueryInvalidError) as failure:
        await segmenter(Choosy(asks_for(ANSWERS))).answer(asking(query), FOREVER)
    assert (failure.value.field, failure.value.description) == (field, "holds a dog")


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


async def test_one_failed_phrase_ends_the_others_and_leaves_the_task_alone() -> None:
    class Limited(FakeGenerator):
        """Has no room for dogs."""

        async def generate(self, request, budget):  # type: ignore[no-untyped-def]
            if "dog" in request.turns[0].text:
                while not self.working:
                    await asyncio.sleep(0)
                raise OverloadedError("full")
            async for chunk in super().generate(request, budget):
                yield chunk

    generator = Limited(asks_for(ANSWERS), released=asyncio.Event())
    with pytest.raises(OverloadedError):
        await segmenter(generator).answer(phrases("cat", "dog"), FOREVER)
    assert (generator.working, generator.abandoned) == (0, 1)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_spent_deadline_names_its_stage() -> None:
    with pytest.raises(DeadlineExceededError) as failure:
        await segmenter().answer(phrases("cat"), Deadline(expires_at=1.0, clock=lambda: 2.0))
    assert failure.value.stage == "generate"


async def test_repaired_text_is_reported_or_refused() -> None:
    broken = FakeGenerator(lambda request: "Here:\n<seg>others *4\n cat *3\n others *4\n others *4\n</seg>")
    answer = await segmenter(broken).answer(phrases("cat"), FOREVER)
    assert names(answer.regions) == ["cat"]
    assert answer.descriptors[0].report.repairs
    assert [warning.kind for warning in answer.warnings] == [WarningKind.DESCRIPTOR_REPAIRED]
    with pytest.raises(DescriptorMalformedError) as failure:
        await segmenter(broken).answer(phrases("cat", options=replace(COARSE, strict=True)), FOREVER)
    assert (failure.value.row, failure.value.column) == (1, 3)


MANY = tuple(f"thing {number}" for number in range(9))


@pytest.mark.parametrize(
    ("query", "row"),
    [
        (OpenQuery(), "cat *2| cat *2"),
        (LabelQuery(MANY), "thing 0 *2| thing 0 *2"),
        (OpenQuery(), "e\u0301 *4"),
    ],
)
async def test_strict_takes_whatever_the_grammar_allows(query: Query, row: str) -> None:
    grammar = DescriptorGrammar(SHAPE, MANY if isinstance(query, LabelQuery) else None)
    block = "\n ".join([row] * 4) + "\n"
    assert grammar.accepts(block)
    use_case = segmenter(FakeGenerator(lambda request: answer_text("Here it is:", block)))
    answer = await use_case.answer(asking(query, replace(COARSE, strict=True)), FOREVER)
    assert [region.area for region in answer.regions] == [SIZE[0] * SIZE[1]]
    assert answer.descriptors[0].report.repairs
    assert answer.warnings == ()


async def test_text_without_a_block_is_nothing_with_a_warning() -> None:
    answer = await segmenter(FakeGenerator(lambda request: "I do not know.")).answer(phrases("cat"), FOREVER)
    assert answer.regions == ()
    assert [warning.kind for warning in answer.warnings] == [WarningKind.DESCRIPTOR_REPAIRED]


async def test_a_cut_off_description_is_warned_of() -> None:
    generator = FakeGenerator(asks_for(ANSWERS), finish=FinishReason.LENGTH)
    answer = await segmenter(generator).answer(phrases("cat"), FOREVER)
    assert answer.descriptors[0].finish_reason is FinishReason.LENGTH
    assert [warning.kind for warning in answer.warnings] == [WarningKind.DESCRIPTOR_REPAIRED]


async def test_one_failed_question_gives_up_the_others() -> None:
    class Fragile(FakeGenerator):
        async def generate(self, request, budget):  # type: ignore[no-untyped-def]
            if request.constraint.labels == ("dog",):
                while self.working == 0:
                    await asyncio.sleep(0)
                raise PeerUnavailableError("generator")
            async for chunk in super().generate(request, budget):
                yield chunk

    generator = Fragile(asks_for(ANSWERS), released=asyncio.Event())
    with pytest.raises(PeerUnavailableError):
        await segmenter(generator).answer(phrases("cat", "dog"), FOREVER)
    assert (generator.working, generator.abandoned) == (0, 1)


@pytest.mark.parametrize("store", [None, MemoryCache(1 << 20)])
async def test_a_cancelled_caller_stops_the_generator(store: MemoryCache | None) -> None:
    generator = FakeGenerator(asks_for(ANSWERS), released=asyncio.Event())
    call = asyncio.ensure_future(segmenter(generator, store=store).answer(phrases("cat"), FOREVER))
    while generator.working == 0:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(10):
        await asyncio.sleep(0)
    assert (generator.working, generator.abandoned) == (0, 1)


async def test_an_answer_that_would_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(ImageInvalidError):
        await segmenter(size=(30_000, 30_000)).answer(phrases("cat"), FOREVER)


async def test_an_image_smaller_than_the_grid_keeps_its_regions() -> None:
    answer = await segmenter(size=(1, 2)).answer(phrases("dog"), FOREVER)
    assert answer.regions[0].area >= 1


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
