"""Which host is home to which shard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import Shard
from cos_ray.domain.shard_assignment import Assignment, HostId, replaced, resized, seats_of_shards

counts = st.integers(1, 200)


def assigned(seats: int, shards: int = 16) -> Assignment:
    return resized(Assignment(0, shards, ()), seats, ())


@given(counts, st.integers(1, 20))
def test_every_shard_has_one_home_and_no_host_has_more_than_its_share(shards: int, seats: int) -> None:
    chosen = seats_of_shards(shards, seats)
    assert len(chosen) == shards
    assert set(chosen) <= set(range(seats))
    assert max(chosen.count(seat) for seat in chosen) <= -(-shards // seats)


@given(st.integers(16, 200), st.integers(1, 10))
def test_few_shards_move_when_a_host_is_added(shards: int, seats: int) -> None:
    before, after = seats_of_shards(shards, seats), seats_of_shards(shards, seats + 1)
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    # Its even share moves to the new one; to keep all shares even, some others change places.
    assert moved <= 2.5 * shards / (seats + 1) + seats + 1


def test_what_the_hosts_are_home_to_is_all_there_is() -> None:
    assignment = assigned(3)
    homes = [assignment.shards_of(host) for host in assignment.hosts]
    assert sorted(shard for home in homes for shard in home) == list(range(16))
    assert all(shard in assignment.shards_of(assignment.host_of(Shard(shard))) for shard in range(16))


def test_there_are_never_more_hosts_than_shards_nor_none() -> None:
    assert len(assigned(50, shards=4).hosts) == 4
    assert len(assigned(0).hosts) == 1


def test_who_takes_a_seat_over_has_a_name_of_its_own_and_the_same_shards() -> None:
    before = assigned(2)
    after = replaced(before, HostId("1"), before.hosts)
    assert after.hosts == ("0", "1.2")
    assert after.epoch > before.epoch
    assert after.shards_of(HostId("1.2")) == before.shards_of(HostId("1"))
    assert replaced(after, HostId("1.2"), after.hosts).hosts == ("0", "1.3")
    assert not after.shards_of(HostId("1"))


def test_a_smaller_assignment_keeps_the_first_seats_and_a_larger_one_all() -> None:
    assert resized(assigned(3), 2, ()).hosts == ("0", "1")
    assert resized(replaced(assigned(2), HostId("0"), ()), 3, ()).hosts == ("0.2", "1", "2")


def test_a_seat_that_is_taken_away_and_given_again_has_a_holder_of_its_own() -> None:
    given_up = replaced(assigned(2), HostId("1"), ())
    # Neither the one that was given up, nor one that has not gone yet.
    assert resized(resized(given_up, 1, ()), 2, ()).hosts == ("0", "1.2")
    assert resized(resized(given_up, 1, ()), 2, [HostId("1.2")]).hosts == ("0", "1.3")
    assert resized(resized(assigned(2), 1, ()), 2, [HostId("1")]).hosts == ("0", "1.2")
    assert resized(resized(assigned(2), 1, ()), 2, ()).hosts == ("0", "1")


def test_of_each_seat_the_last_one_given_up_is_remembered_and_counts_for_all_before_it() -> None:
    assignment = assigned(11)
    for host in ("1", "1.2", "10", "1.3"):
        assignment = replaced(assignment, HostId(host), assignment.hosts)
    assert assignment.given_up == {"1.3", "10"}
    assert [each for each in ("1", "1.2", "1.3", "10") if assignment.gave_up(HostId(each))] == [
        "1",
        "1.2",
        "1.3",
        "10",
    ]
    assert not any(map(assignment.gave_up, assignment.hosts))
