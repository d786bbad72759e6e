"""Chat, driven through small fakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.orchestrator.chat import Chatter
from services.orchestrator.refinement import Refinement
from tests.orchestrator_fakes import (
    FOREVER,
    SIZE,
    FakeGenerator,
    FakeImages,
    FakeRefiner,
    assert_same,
    description,
    mask_of,
)
from text4seg.dialogue import find_blocks
from text4seg.errors import DescriptorMalformedError, OptionInvalidError, PeerUnavailableError
from text4seg.segmentation import (
    ChatEvent,
    ChatFinish,
    ChatRegions,
    ChatRequest,
    ChatText,
    FinishReason,
    ImageContent,
    RefineMode,
    Turn,
    WarningKind,
)

CAT = ".... .aa. .aa. ...."
DOG = "a... .... .... ..aa"
ONE_BLOCK = description(CAT, "cat") + " There is one cat."
TWO_BLOCKS = f"First: {description(CAT, 'cat')}\nSecond: {description(DOG, 'dog')} Done."


def chatter(generator: FakeGenerator, refiner: FakeRefiner | None = None) -> Chatter:
    return Chatter(FakeImages(), generator, Refinement(refiner, 0.3))


def request(*texts: str) -> ChatRequest:
    turns = tuple(Turn("assistant" if index % 2 else "user", text) for index, text in enumerate(texts))
    return ChatRequest(ImageContent(b"image"), turns)


async def events_of(use_case: Chatter, asked: ChatRequest) -> list[ChatEvent]:
    return [event async for event in use_case.stream(asked, FOREVER)]


def spoken(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ChatText))


def finish_of(events: list[ChatEvent]) -> ChatFinish:
    *rest, finish = events
    assert isinstance(finish, ChatFinish)
    assert not any(isinstance(event, ChatFinish) for event in rest)
    return finish


async def test_a_caller_who_reads_slowly_does_not_hold_up_the_generator() -> None:
    generator = FakeGenerator(lambda asked: ONE_BLOCK)
    events = chatter(generator).stream(request("What is this?"), FOREVER)
    await anext(events)
    async with asyncio.timeout(20):
        while generator.working:
            await asyncio.sleep(0)
    rest = [event async for event in events]
    assert finish_of(rest).turn.text == ONE_BLOCK
    assert generator.abandoned == 0


async def test_plain_words_come_as_they_are_written() -> None:
    generator = FakeGenerator(lambda asked: "A cat lies on a sofa.")
    events = await events_of(chatter(generator), request("What is this?"))
    assert len(events) > 2
    assert spoken(events) == "A cat lies on a sofa."
    finish = finish_of(events)
    assert finish.turn == Turn("assistant", "A cat lies on a sofa.")
    assert finish.reason is FinishReason.STOP
    assert finish.image_size == SIZE
    assert finish.warnings == ()
    assert finish.versions.model == "fake 1"
    (asked,) = generator.requests
    assert asked.constraint is None


async def test_the_conversation_reaches_the_model_with_its_blocks() -> None:
    generator = FakeGenerator(lambda asked: "It is grey.")
    conversation = request("Where is the cat?", ONE_BLOCK, "What colour is it?")
    await events_of(chatter(generator), replace(conversation, max_tokens=50))
    (asked,) = generator.requests
    assert asked.turns == conversation.turns
    assert asked.max_tokens == 50


async def test_an_answer_can_be_sent_back_as_a_turn() -> None:
    generator = FakeGenerator(lambda asked: ONE_BLOCK if len(asked.turns) == 1 else "Yes.")
    finish = finish_of(await events_of(chatter(generator), request("Where is the cat?")))
    next_request = ChatRequest(
        ImageContent(b"image"), (Turn("user", "Where is the cat?"), finish.turn, Turn("user", "Sure?"))
    )
    assert spoken(await events_of(chatter(generator), next_request)) == "Yes."
    assert generator.requests[1].turns[1].text == ONE_BLOCK


async def test_regions_follow_each_completed_block() -> None:
    events = await events_of(chatter(FakeGenerator(lambda asked: TWO_BLOCKS)), request("Find both."))
    assert spoken(events) == TWO_BLOCKS
    places = [index for index, event in enumerate(events) if isinstance(event, ChatRegions)]
    found = [event for event in events if isinstance(event, ChatRegions)]
    assert [[region.label for region in event.regions] for event in found] == [["cat"], ["dog"]]
    assert [event.regions[0].score for event in found] == pytest.approx([0.5533, 0.4829], abs=1e-4)
    for place, event, block, picture in zip(places, found, find_blocks(TWO_BLOCKS), (CAT, DOG), strict=True):
        assert (event.begin, event.end) == (block.begin, block.end)
        so_far = spoken(events[:place])
        assert block.end <= len(so_far) < block.end + 7  # as soon as the block was closed
        assert_same(event.regions[0].mask, mask_of(picture))
        assert event.descriptor.report.repairs == ()
        assert event.descriptor.text == TWO_BLOCKS[block.begin : block.end]


async def test_an_unclosed_block_is_read_at_the_end_and_warned_of() -> None:
    cut = TWO_BLOCKS[: TWO_BLOCKS.rindex("</seg>")]
    generator = FakeGenerator(lambda asked: cut, finish=FinishReason.LENGTH)
    events = await events_of(chatter(generator), request("Find both."))
    found = [event for event in events if isinstance(event, ChatRegions)]
    assert [event.descriptor.finish_reason for event in found] == [FinishReason.STOP, FinishReason.LENGTH]
    assert found[1].regions[0].label == "dog"
    finish = finish_of(events)
    assert finish.reason is FinishReason.LENGTH
    assert [warning.kind for warning in finish.warnings] == [WarningKind.DESCRIPTOR_REPAIRED]


async def test_refined_regions_when_asked_for() -> None:
    refiner = FakeRefiner(lambda mask: np.roll(mask, 1, axis=1))
    asked = request("Find the cat.")
    generator = FakeGenerator(lambda asked: ONE_BLOCK)
    assert await refined_flags(generator, refiner, asked) == [False]
    asked = replace(asked, options=replace(asked.options, refine=RefineMode.AUTO))
    assert await refined_flags(generator, refiner, asked) == [True]
    refiner.failure = PeerUnavailableError("refiner")
    events = await events_of(chatter(generator, refiner), asked)
    assert [warning.kind for warning in finish_of(events).warnings] == [WarningKind.REFINER_FAILED]
    required = replace(asked, options=replace(asked.options, refine=RefineMode.REQUIRED))
    with pytest.raises(PeerUnavailableError):
        await events_of(chatter(generator, refiner), required)


async def refined_flags(generator: FakeGenerator, refiner: FakeRefiner, asked: ChatRequest) -> list[bool]:
    events = await events_of(chatter(generator, refiner), asked)
    return [region.refined for event in events if isinstance(event, ChatRegions) for region in event.regions]


async def test_options_shape_the_regions() -> None:
    asked = request("Find the dog.")
    options = replace(asked.options, split_instances=True, confidence_map=True)
    generator = FakeGenerator(lambda asked: description(DOG, "dog"))
    events = await events_of(chatter(generator), replace(asked, options=options))
    (found,) = (event for event in events if isinstance(event, ChatRegions))
    assert [region.split for region in found.regions] == [True, True]
    assert all(region.confidence is not None for region in found.regions)


async def test_strict_refuses_a_repaired_block() -> None:
    asked = request("Find the cat.")
    asked = replace(asked, options=replace(asked.options, strict=True))
    generator = FakeGenerator(lambda asked: "<seg>cat *2\n</seg>")
    with pytest.raises(DescriptorMalformedError):
        await events_of(chatter(generator), asked)


async def test_an_unknown_refiner_model_is_refused_before_anything_is_said() -> None:
    asked = request("Find the cat.")
    options = replace(asked.options, refine=RefineMode.AUTO, refiner_model="nope")
    generator = FakeGenerator(lambda asked: ONE_BLOCK)
    with pytest.raises(OptionInvalidError):
        await events_of(chatter(generator, FakeRefiner()), replace(asked, options=options))
    assert generator.requests == []


async def test_leaving_the_stream_stops_the_model() -> None:
    generator = FakeGenerator(lambda asked: TWO_BLOCKS, released=asyncio.Event())
    stream = chatter(generator).stream(request("Find both."), FOREVER)
    assert isinstance(await anext(stream), ChatText)
    await stream.aclose()
    assert (generator.working, generator.abandoned) == (0, 1)
