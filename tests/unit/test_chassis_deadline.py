"""How much time a call has left, and what is passed on."""

import math
from dataclasses import dataclass

import pytest

from services.chassis.deadline import Deadline, wire_rounding_s
from text4seg.errors import DeadlineExceededError


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Context:
    """What a servicer context says about time."""

    remaining_s: float | None

    def time_remaining(self) -> float | None:
        return self.remaining_s


def test_peers_get_what_is_left_minus_the_margin() -> None:
    clock = Clock()
    deadline = Deadline.from_context(Context(2.0), margin_s=0.5, clock=clock)
    assert deadline.timeout_for_peer("generate") == pytest.approx(1.5 - 0.01)
    clock.now += 1.0
    assert deadline.timeout_for_peer("refine") == pytest.approx(0.5 - 0.01)


@pytest.mark.parametrize(
    ("received_s", "least_s"),
    [(0.4, 0.399), (1.01, 1.0), (2.04, 2.03), (9.99, 9.98), (12.4, 12.3), (60.0, 59.9), (124.0, 123.0)],
)
def test_what_was_rounded_up_on_the_wire_was_at_least_this(received_s: float, least_s: float) -> None:
    assert received_s - wire_rounding_s(received_s) == pytest.approx(least_s)


def test_next_to_nothing_and_nothing_are_rounded_too() -> None:
    assert 0 < wire_rounding_s(0.0) == wire_rounding_s(0.05) <= 0.001


def test_a_spent_deadline_names_the_stage() -> None:
    clock = Clock()
    deadline = Deadline.from_context(Context(2.0), margin_s=0.5, clock=clock)
    clock.now += 1.49

    assert deadline.expired()
    assert deadline.remaining_s() == 0
    with pytest.raises(DeadlineExceededError) as caught:
        deadline.timeout_for_peer("refine")
    assert caught.value.stage == "refine"
    with pytest.raises(DeadlineExceededError):
        deadline.check("refine")


def test_no_deadline_never_expires_and_sets_no_timeout() -> None:
    clock = Clock()
    deadline = Deadline.from_context(Context(None), clock=clock)
    clock.now += 1e9

    assert not deadline.expired()
    assert math.isinf(deadline.remaining_s())
    assert deadline.timeout_for_peer("generate") is None
    deadline.check("generate")


def test_less_than_the_margin_is_nothing() -> None:
    deadline = Deadline.from_context(Context(0.01), margin_s=0.02, clock=Clock())

    assert deadline.expired()


def test_a_deadline_may_be_set_from_here() -> None:
    assert Deadline.after(3.0, Clock()).remaining_s() == 3.0
