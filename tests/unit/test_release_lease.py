"""How long a deployed release stays."""

from __future__ import annotations

from cos_ray.domain.release_lease import LAPSES_AFTER, LOOK_EVERY, STARTED_WITHIN, ReleaseLease


def test_a_release_that_no_replica_comes_to_is_over_after_a_while() -> None:
    tenure = ReleaseLease()
    _look(tenure, LAPSES_AFTER - LOOK_EVERY)
    assert not tenure.is_over()
    _look(tenure, LOOK_EVERY)
    assert tenure.is_over()


def test_a_release_stays_as_long_as_a_replica_is_heard() -> None:
    tenure = ReleaseLease()
    for _ in range(30):
        tenure.note()
        _look(tenure, 10)
        assert not tenure.is_over()
    _look(tenure, LAPSES_AFTER - 10)
    assert tenure.is_over()


def test_while_its_parts_start_a_release_is_not_over() -> None:
    tenure = ReleaseLease()
    _look(tenure, STARTED_WITHIN, is_starting=True)
    _look(tenure, LAPSES_AFTER - LOOK_EVERY)
    assert not tenure.is_over()


def test_parts_that_never_start_keep_no_release() -> None:
    tenure = ReleaseLease()
    _look(tenure, STARTED_WITHIN + LAPSES_AFTER, is_starting=True)
    assert tenure.is_over()


def _look(tenure: ReleaseLease, seconds: float, *, is_starting: bool = False) -> None:
    for _ in range(round(seconds / LOOK_EVERY)):
        tenure.look(is_starting=is_starting)
