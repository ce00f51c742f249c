"""How long a deployed release stays."""

from __future__ import annotations

from cos_ray.domain.tenure import LAPSES_AFTER, Tenure

NOW = 1000.0


def test_a_release_that_no_replica_comes_to_is_over_after_a_while() -> None:
    tenure = Tenure(NOW)
    assert not tenure.is_over(NOW + LAPSES_AFTER - 1)
    assert tenure.is_over(NOW + LAPSES_AFTER)


def test_a_release_stays_as_long_as_a_replica_is_heard() -> None:
    tenure = Tenure(NOW)
    for moment in range(0, 300, 10):
        tenure.note(NOW + moment)
    end = NOW + 290
    assert not tenure.is_over(end + 1)
    assert tenure.is_over(end + LAPSES_AFTER)
