"""The model's thread: order, errors, streams, and what a consumer who leaves stops."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.logs import begin_request, current_request_id
from services.chassis.worker import Cancelled, ModelThread
from text4seg.errors import ServiceUnavailableError


@pytest.fixture
async def thread() -> AsyncIterator[ModelThread]:
    async with ModelThread("test") as thread:
        yield thread


class Endless:
    """A generator of integers without end, which tells where it runs and when it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.closed_in: str | None = None
        self.saw_cancelled = False

    def __call__(self, cancelled: Cancelled) -> Iterator[int]:
        number = 0
        try:
            while not cancelled():
                yield number
                number += 1
            self.saw_cancelled = True
        finally:
            self.closed_in = threading.current_thread().name
            self.closed.set()


def count(cancelled: Cancelled) -> Iterator[int]:
    yield from range(5)


async def closed(endless: Endless) -> bool:
    return await asyncio.to_thread(endless.closed.wait, 10)


async def test_run_returns_the_result_from_another_thread(thread: ModelThread) -> None:
    names = [await thread.run(lambda: threading.current_thread().name) for _ in range(3)]

    assert len(set(names)) == 1
    assert names[0].startswith("test")


async def test_run_raises_what_the_function_raises(thread: ModelThread) -> None:
    def fail() -> None:
        raise KeyError("cat")

    with pytest.raises(KeyError, match="cat"):
        await thread.run(fail)
    assert await thread.run(lambda: "still alive") == "still alive"


async def test_work_is_done_one_at_a_time_in_order(thread: ModelThread) -> None:
    running = 0
    order: list[int] = []

    def work(number: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        order.append(number)
        running -= 1
        return number

    results = await asyncio.gather(*(thread.run(lambda number=number: work(number)) for number in range(20)))

    assert results == order == list(range(20))


async def test_the_loop_is_free_while_the_thread_works(thread: ModelThread) -> None:
    released = threading.Event()
    working = asyncio.create_task(thread.run(lambda: released.wait(10)))
    await asyncio.sleep(0)
    assert not working.done()
    released.set()

    assert await working


async def test_cancelled_work_that_has_not_begun_never_runs(thread: ModelThread) -> None:
    released, ran = threading.Event(), threading.Event()
    first = asyncio.create_task(thread.run(lambda: released.wait(10)))
    second = asyncio.create_task(thread.run(ran.set))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait([second])
    released.set()
    await first

    await thread.run(lambda: None)
    assert not ran.is_set()


async def test_a_stream_gives_every_item_in_order(thread: ModelThread) -> None:
    assert [item async for item in thread.stream(count)] == [0, 1, 2, 3, 4]


async def test_a_stream_may_come_from_any_iterator(thread: ModelThread) -> None:
    assert [item async for item in thread.stream(lambda cancelled: iter("abc"))] == ["a", "b", "c"]


async def test_a_stream_raises_after_the_items_before_the_error(thread: ModelThread) -> None:
    def fail(cancelled: Cancelled) -> Iterator[int]:
        yield 1
        raise KeyError("cat")

    stream = thread.stream(fail)
    assert await anext(stream) == 1
    with pytest.raises(KeyError, match="cat"):
        await anext(stream)


async def test_an_error_before_the_first_item_is_raised_too(thread: ModelThread) -> None:
    def refuse(cancelled: Cancelled) -> Iterator[int]:
        raise KeyError("cat")

    with pytest.raises(KeyError):
        await anext(thread.stream(refuse))


async def test_closing_a_stream_stops_its_generator_in_the_thread(thread: ModelThread) -> None:
    endless = Endless()
    stream = thread.stream(endless)
    assert await anext(stream) == 0
    await stream.aclose()

    assert await closed(endless)
    assert endless.closed_in is not None
    assert endless.closed_in.startswith("test")
    assert await thread.run(lambda: "free again") == "free again"


async def test_cancelling_the_consumer_stops_the_generator(thread: ModelThread) -> None:
    endless = Endless()

    async def consume() -> None:
        async for _ in thread.stream(endless):
            pass

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0.05)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer

    assert await closed(endless)


async def test_a_generator_that_waits_can_ask_whether_anybody_still_listens(thread: ModelThread) -> None:
    asked = threading.Event()
    gave_up = threading.Event()

    def think(cancelled: Cancelled) -> Iterator[int]:
        while not cancelled():
            asked.set()
        gave_up.set()
        yield 1

    consumer = asyncio.ensure_future(anext(thread.stream(think)))
    assert await asyncio.to_thread(asked.wait, 10)
    consumer.cancel()

    assert await asyncio.to_thread(gave_up.wait, 10)


async def test_a_stream_cancelled_in_the_queue_never_begins(thread: ModelThread) -> None:
    released, began = threading.Event(), threading.Event()

    def note(cancelled: Cancelled) -> Iterator[int]:
        began.set()
        yield 1

    first = asyncio.create_task(thread.run(lambda: released.wait(10)))
    second = asyncio.ensure_future(anext(thread.stream(note)))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait([second])
    released.set()
    await first
    await thread.run(lambda: None)

    assert not began.is_set()


async def test_a_consumer_that_stalls_does_not_fill_the_memory(thread: ModelThread) -> None:
    made = 0

    def endless(cancelled: Cancelled) -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    stream = thread.stream(endless)
    assert await anext(stream) == 1
    await asyncio.sleep(0.3)

    assert made < 2000
    assert [await anext(stream) for _ in range(3000)] == list(range(2, 3002))
    await stream.aclose()
    assert await thread.run(lambda: "free again") == "free again"


async def test_closing_the_thread_ends_its_streams_and_refuses_more() -> None:
    thread = ModelThread("test")
    endless = Endless()
    running, waiting = thread.stream(endless), thread.stream(count)
    assert await anext(running) == 0
    queued = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0.01)

    await thread.aclose()

    assert endless.closed.is_set()
    with pytest.raises(ServiceUnavailableError):
        await queued
    with pytest.raises(ServiceUnavailableError):
        async for _ in running:
            pass
    with pytest.raises(ServiceUnavailableError):
        await thread.run(lambda: None)
    with pytest.raises(ServiceUnavailableError):
        await anext(thread.stream(count))


async def test_what_runs_in_the_thread_knows_whose_request_it_is(thread: ModelThread) -> None:
    begin_request("abc-1")
    assert await thread.run(current_request_id) == "abc-1"

    begin_request("abc-2")
    assert [each async for each in thread.stream(lambda cancelled: iter([current_request_id()]))] == ["abc-2"]
