"""What the blocking and the asyncio client have in common, and what each does in its own world."""

import asyncio
import inspect
from typing import Any, get_args

import grpc
import numpy as np
import pytest

from tests.hand_server import HandServicer, picture, serving
from text4seg.errors import DeadlineExceededError, OverloadedError, ServiceUnavailableError
from text4seg.masks import encode_rle
from text4seg.segmentation import GridRow, RefineMode
from text4seg_client import AsyncClient, Client, SegmentOptions

CALLS = ("segment", "stream_segment", "detect", "chat", "put_image", "model_info", "close")
STREAMS = ("stream_segment", "chat")


@pytest.mark.parametrize("name", CALLS)
def test_the_twins_take_the_same_arguments_and_say_the_same(name: str) -> None:
    blocking, concurrent = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.getdoc(blocking) == inspect.getdoc(concurrent)
    ours, theirs = inspect.signature(blocking), inspect.signature(concurrent)
    assert ours.parameters == theirs.parameters
    if name in STREAMS:
        assert get_args(ours.return_annotation)[0] == get_args(theirs.return_annotation)[0]
        assert inspect.isgeneratorfunction(blocking)
        assert inspect.isasyncgenfunction(concurrent)
    else:
        assert ours.return_annotation == theirs.return_annotation
        assert not inspect.iscoroutinefunction(blocking)
        assert inspect.iscoroutinefunction(concurrent)


def test_the_twins_are_set_up_alike() -> None:
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_is_printed_without_its_key(kind: type[Client] | type[AsyncClient]) -> None:
    client = kind("127.0.0.1:1", api_key="secret", timeout_s=5)
    assert repr(client) == f"{kind.__name__}('127.0.0.1:1', tls=False, timeout_s=5)"


async def test_a_closed_client_says_so(address: str) -> None:
    with Client(address) as client:
        client.model_info()
    client.close()
    assert repr(client).endswith(", closed)")
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.segment(picture(), "red")
    with pytest.raises(RuntimeError, match="the client is closed"):
        next(client.stream_segment(picture(), "red"))
    async with AsyncClient(address) as concurrent:
        await concurrent.model_info()
    await concurrent.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await concurrent.segment(picture(), "red")


def test_an_async_client_stays_in_its_event_loop(address: str) -> None:
    client = AsyncClient(address)

    async def first() -> None:
        await client.model_info()
        await client.close()

    asyncio.run(first())
    other = AsyncClient(address)
    with asyncio.Runner() as runner:
        runner.run(other.model_info())
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            asyncio.run(other.model_info())
        runner.run(other.close())


async def test_a_blocking_client_works_where_an_event_loop_runs(address: str) -> None:
    # As in a notebook: this blocks the loop, but must not disturb it.
    with Client(address) as client:
        assert len(client.segment(picture(), "red").regions) == 1
        events = client.stream_segment(picture(), "red")
        assert isinstance(next(events), GridRow)
        del events
    await asyncio.sleep(0)


def test_threads_share_a_client(address: str) -> None:
    async def ask(client: Client) -> list[int]:
        phrases = ("red", "green", "blue") * 4
        calls = (asyncio.to_thread(client.segment, picture(), phrase) for phrase in phrases)
        return [len(answer.regions) for answer in await asyncio.gather(*calls)]

    with Client(address) as client:
        assert asyncio.run(ask(client)) == [1, 0, 1] * 4


def test_run_lengths_are_there_beside_the_mask(address: str) -> None:
    with Client(address) as client:
        (region,) = client.segment(picture(), "red").regions
    assert region.rle == encode_rle(picture()[..., 0] == 220)
    assert region.mask is region.mask
    assert np.array_equal(region.mask, picture()[..., 0] == 220)


@pytest.mark.parametrize(
    ("image", "query", "options", "why"),
    [
        (7, "red", SegmentOptions(), "an image is a path, .* not int"),
        (picture(), 7, SegmentOptions(), "a query is a phrase, .* not int"),
        (picture(), b"red", SegmentOptions(), "a query is a phrase, .* not bytes"),
        (picture(), ["red", 7], SegmentOptions(), "not list of int, str"),
        (picture(), "red", RefineMode.NONE, "options are SegmentOptions"),
        (picture(), "red", {"refine": "none"}, "options are SegmentOptions.* not dict"),
    ],
)
def test_arguments_of_another_type_are_refused(image: Any, query: Any, options: Any, why: str) -> None:
    with Client("127.0.0.1:1") as client:
        for call in (client.segment, client.detect, lambda *given: next(client.stream_segment(*given))):
            with pytest.raises(TypeError, match=why):
                call(image, query, options)


def test_turns_of_another_type_are_refused() -> None:
    with Client("127.0.0.1:1") as client:
        for turns in (7, ["what is this?"], None):
            with pytest.raises(TypeError, match="a conversation is a question or a list of Turns"):
                next(client.chat(picture(), turns))  # type: ignore[arg-type]


def test_no_call_goes_without_an_end(address: str, servicer: HandServicer) -> None:
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="timeout_s"):
            Client(address, timeout_s=seconds)
    with Client(address) as client:
        for seconds in (float("inf"), float("nan")):
            with pytest.raises(ValueError, match="timeout_s must be finite"):
                client.segment(picture(), "red", timeout_s=seconds)
        with pytest.raises(DeadlineExceededError):
            client.segment(picture(), "red", timeout_s=0)
    assert servicer.seen == []


def test_nothing_is_tried_again_without_the_wish_of_the_server() -> None:
    class Rude(HandServicer):
        def GetModelInfo(self, message: Any, context: Any) -> Any:  # noqa: N802
            self.seen.append(message)
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    rude = Rude()
    with (
        serving(rude) as where,
        Client(where) as client,
        pytest.raises(ServiceUnavailableError, match="gone"),
    ):
        client.model_info()
    assert len(rude.seen) == 1


async def test_a_stream_that_has_begun_is_not_tried_again() -> None:
    class Tiring(HandServicer):
        def StreamSegment(self, message: Any, context: Any) -> Any:  # noqa: N802
            yield next(super().StreamSegment(message, context))
            self.failures.append(OverloadedError("full", 0.01))
            yield from super().StreamSegment(message, context)

    tiring = Tiring()
    with serving(tiring) as where:
        with Client(where) as client:
            events = client.stream_segment(picture(), "red")
            assert isinstance(next(events), GridRow)
            with pytest.raises(OverloadedError):
                next(events)
            assert list(events) == []
        async with AsyncClient(where) as concurrent:
            with pytest.raises(OverloadedError):
                _ = [event async for event in concurrent.stream_segment(picture(), "red")]
    assert [seen.method for seen in tiring.seen] == ["StreamSegment"] * 4  # two calls, each noted twice
