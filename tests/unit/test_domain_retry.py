"""Waits between attempts: within their bounds for every draw, spread, and never beyond the cap."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.domain.retry import DEFAULT_RETRY, HOUR_S, ExponentialBackoff, LinearBackoff

DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 30), (2, 60), (3, 90), (10, 300), (119, 3_570)])
def test_the_default_waits_half_a_minute_per_attempt(attempt: int, delay_s: float) -> None:
    assert DEFAULT_RETRY.delay_s(attempt, draw=0.5) == pytest.approx(delay_s)


@given(attempt=st.integers(1, 10_000), draw=DRAWS)
def test_the_default_stays_within_a_fifth_and_an_hour(attempt: int, draw: float) -> None:
    delay_s = DEFAULT_RETRY.delay_s(attempt, draw=draw)

    assert min(0.8 * 30 * attempt, HOUR_S) <= delay_s + 1e-9
    assert delay_s <= min(1.2 * 30 * attempt, HOUR_S) + 1e-9


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 10), (2, 20), (3, 40), (8, 1_280), (10, 3_600), (100_000, 3_600)])
def test_exponential_waits_double_up_to_the_cap(attempt: int, delay_s: float) -> None:
    assert ExponentialBackoff().delay_s(attempt, draw=0.5) == pytest.approx(delay_s)


@given(attempt=st.integers(1, 10**9), draw=DRAWS, jitter=st.floats(0, 1))
def test_no_wait_is_negative_or_endless(attempt: int, draw: float, jitter: float) -> None:
    for policy in (LinearBackoff(jitter=jitter), ExponentialBackoff(jitter=jitter)):
        assert 0 <= policy.delay_s(attempt, draw=draw) <= HOUR_S


def test_without_jitter_the_draw_does_not_matter() -> None:
    policy = LinearBackoff(base_s=1, jitter=0)

    assert policy.delay_s(3, draw=0.0) == policy.delay_s(3, draw=0.99) == 3


def test_a_thousand_jobs_that_fail_together_do_not_come_back_together() -> None:
    draws = random.Random(1)  # noqa: S311 - jitter
    bins = Counter(int(DEFAULT_RETRY.delay_s(1, draw=draws.random())) for _ in range(1_000))

    assert max(bins.values()) < 120
    assert len(bins) >= 12
