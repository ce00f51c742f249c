"""How long to wait after a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.failure_policy import Backoff


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (10**9, 30)]
)
def test_waits_double_up_to_the_longest(failures: int, seconds: int) -> None:
    assert Backoff().wait(failures) == timedelta(seconds=seconds)


def test_no_failure_waits_as_long_as_one() -> None:
    assert Backoff().wait(0) == Backoff().wait(1)


@given(
    st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    st.integers(0, 10**6),
)
def test_a_wait_is_never_longer_than_the_longest(first: timedelta, longest: timedelta, failures: int) -> None:
    assert timedelta(0) < Backoff(first, longest).wait(failures) <= longest
