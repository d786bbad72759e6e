"""The gate: who gets in, who waits, who is sent away, and what cancelling gives back."""

import asyncio

import pytest

from services.chassis.admission import Gate
from text4seg.errors import OverloadedError


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Visitor:
    """A task that goes through a gate, tells what it waited, and leaves when told."""

    def __init__(self, gate: Gate) -> None:
        self.waited_s: float | None = None
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(gate))

    async def _visit(self, gate: Gate) -> None:
        async with gate.slot() as self.waited_s:
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def arrive(gate: Gate, count: int) -> list[Visitor]:
    visitors = [Visitor(gate) for _ in range(count)]
    await settle()
    return visitors


async def test_only_so_many_are_inside_and_the_rest_wait_in_order() -> None:
    gate = Gate(concurrency=2, queue=3)
    visitors = await arrive(gate, 5)

    assert [visitor.waited_s is not None for visitor in visitors] == [True, True, False, False, False]
    assert gate.waiting == 3
    for number, visitor in enumerate(visitors):
        await visitor.leave()
        await settle()
        inside = [each.waited_s is not None for each in visitors]
        assert inside == [position < number + 3 for position in range(5)]
    assert gate.waiting == 0


async def test_one_too_many_is_sent_away_and_may_come_back() -> None:
    gate = Gate(concurrency=1, queue=1)
    first, second = await arrive(gate, 2)
    (third,) = await arrive(gate, 1)

    with pytest.raises(OverloadedError) as caught:
        await third.task
    assert caught.value.retry_after_s > 0
    await first.leave()
    (fourth,) = await arrive(gate, 1)
    await second.leave()
    await fourth.leave()


async def test_no_queue_means_no_waiting() -> None:
    gate = Gate(concurrency=1, queue=0)
    (first,) = await arrive(gate, 1)

    with pytest.raises(OverloadedError):
        async with gate.slot():
            pass
    await first.leave()


async def test_a_cancelled_waiter_gives_its_place_back() -> None:
    gate = Gate(concurrency=1, queue=1)
    first, second = await arrive(gate, 2)
    second.task.cancel()
    await settle()
    assert gate.waiting == 0

    (third,) = await arrive(gate, 1)
    await first.leave()
    await third.leave()


async def test_a_cancelled_visitor_lets_the_next_one_in() -> None:
    gate = Gate(concurrency=1, queue=1)
    first, second = await arrive(gate, 2)
    first.task.cancel()
    await settle()

    assert second.waited_s is not None
    await second.leave()


async def test_a_failing_visitor_lets_the_next_one_in() -> None:
    gate = Gate(concurrency=1, queue=0)
    with pytest.raises(KeyError):
        async with gate.slot():
            raise KeyError("cat")

    async with gate.slot() as waited_s:
        assert waited_s == pytest.approx(0, abs=1)


async def test_the_wait_is_measured() -> None:
    clock = Clock()
    gate = Gate(concurrency=1, queue=1, clock=clock)
    first, second = await arrive(gate, 2)
    clock.now += 2.5
    await first.leave()
    await settle()

    assert (first.waited_s, second.waited_s) == (0.0, 2.5)
    await second.leave()


async def test_slower_visits_mean_a_later_retry() -> None:
    async def retry_after(visit_s: float) -> float:
        clock = Clock()
        gate = Gate(concurrency=1, queue=0, clock=clock)
        for _ in range(30):
            (visitor,) = await arrive(gate, 1)
            clock.now += visit_s
            await visitor.leave()
        (visitor,) = await arrive(gate, 1)
        with pytest.raises(OverloadedError) as caught:
            async with gate.slot():
                pass
        await visitor.leave()
        return caught.value.retry_after_s

    assert await retry_after(0.2) == pytest.approx(0.2, rel=0.05)
    assert await retry_after(8.0) == pytest.approx(8.0, rel=0.05)


@pytest.mark.parametrize(("concurrency", "queue"), [(0, 1), (-1, 1), (1, -1)])
def test_an_impossible_gate_is_refused(concurrency: int, queue: int) -> None:
    with pytest.raises(ValueError, match="gate"):
        Gate(concurrency, queue)
