"""The retry policy: bounded, jittered, never sooner than asked, never past the deadline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text4seg_client.retry import RetryPolicy

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 8),
    initial_s=st.floats(0, 2),
    multiplier=st.floats(1, 4),
    longest_s=st.floats(0, 20),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, st.floats(0, 100), st.integers(1, 10), st.floats(0, 100), jitters)
def test_a_wait_is_never_sooner_than_asked_and_ends_before_the_deadline(
    policy: RetryPolicy, asked: float, failures: int, remaining: float, jitter: float
) -> None:
    seconds = policy.delay(asked, failures, remaining, lambda: jitter)
    if seconds is not None:
        assert asked <= seconds < remaining
        assert seconds <= max(asked + policy.longest_s, policy.longest_s)


@given(policies, st.integers(1, 10), jitters)
def test_without_a_wish_of_the_server_there_is_no_retry(
    policy: RetryPolicy, failures: int, jitter: float
) -> None:
    assert policy.delay(None, failures, 1000, lambda: jitter) is None


@given(policies, jitters)
def test_attempts_are_bounded(policy: RetryPolicy, jitter: float) -> None:
    retries = [policy.delay(0, failures, 1e9, lambda: jitter) for failures in range(1, 12)]
    assert sum(seconds is not None for seconds in retries) == policy.attempts - 1


def test_the_backoff_grows_and_is_jittered() -> None:
    policy = RetryPolicy(attempts=9, initial_s=1, multiplier=2, longest_s=6)
    low = [policy.delay(0, failures, 1e9, lambda: 0.0) for failures in range(1, 5)]
    high = [policy.delay(0, failures, 1e9, lambda: 0.999) for failures in range(1, 5)]
    assert low == [0.5, 1.0, 2.0, 3.0]
    assert all(a < b for a, b in zip(low, high, strict=True) if a is not None and b is not None)


@pytest.mark.parametrize(
    "settings", [{"attempts": 0}, {"initial_s": -1.0}, {"longest_s": -1.0}, {"multiplier": 0.5}]
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempts|backoff"):
        RetryPolicy(**settings)  # type: ignore[arg-type]
