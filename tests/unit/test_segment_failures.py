"""Segment when something goes wrong: the generator, its text, the caller, the time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.chassis.byte_cache import MemoryCache
from services.chassis.deadline import Deadline
from tests.orchestrator_fakes import (
    FOREVER,
    SHAPE,
    SIZE,
    FakeGenerator,
    asks_for,
)
from tests.segmenting import (
    ANSWERS,
    COARSE,
    asking,
    names,
    phrases,
    segmenter,
)
from text4seg.dialogue import answer_text
from text4seg.errors import (
    DeadlineExceededError,
    DescriptorMalformedError,
    ImageInvalidError,
    OverloadedError,
    PeerUnavailableError,
    QueryInvalidError,
)
from text4seg.grammar import DescriptorGrammar
from text4seg.segmentation import (
    FinishReason,
    LabelQuery,
    OpenQuery,
    PhraseQuery,
    Query,
    WarningKind,
)


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
