"""When a snapshot is due, and what it makes dispensable."""

from __future__ import annotations

import pytest

from cos_ray.domain.ids import Revision
from cos_ray.domain.retention import Retention


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [(0, 1, False), (8, 9, False), (9, 10, True), (10, 11, False), (8, 12, True), (5, 35, True)],
)
def test_a_command_that_reaches_or_passes_a_multiple_leads_to_a_snapshot(
    before: int, after: int, wanted: bool
) -> None:
    assert Retention(frequency=10).wants_snapshot(Revision(before), Revision(after)) is wanted


@pytest.mark.parametrize(("at", "dispensable"), [(10, 0), (20, 0), (30, 10), (31, 11)])
def test_as_many_events_stay_as_the_kept_snapshots_span(at: int, dispensable: int) -> None:
    assert Retention(frequency=10, keep=2).dispensable(Revision(at)) == dispensable
