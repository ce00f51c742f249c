"""Who is admitted to memory, who has to leave, and who has to wait."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from cos_ray.domain.errors import EntityLost, NoRoom
from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import RESTED, Room
from cos_ray.domain.passivation import ProcessLimits
from cos_ray.placement.process_coordinator import COUNT_EVERY
from tests.support.process_coordinator import N1, N2, A, B, C, D, FakeHomes, Rig


async def test_an_entity_is_started_once_however_many_ask() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        asked = [asyncio.ensure_future(rig.coordinator.admit(A)) for _ in range(100)]
        await rig.clock.pass_time(0)
        assert {await each for each in asked} == {A}
        assert rig.homes.started == [A]


async def test_at_the_bound_the_least_recently_used_leaves() -> None:
    async with Rig(FakeHomes({N1: 3})).running() as rig:
        for entity_id in (A, B, C):
            assert await rig.admitted(entity_id)
        rig.coordinator.used([A])
        assert await rig.admitted(D)
        assert rig.homes.left == [B]
        assert rig.homes.most_there == 3


async def test_where_there_is_room_only_who_asks_for_that_gets_in_and_nobody_busy_has_to_leave() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        assert await rig.coordinator.admit(A, only_if_room=True) == A
        assert await rig.coordinator.admit(B, only_if_room=True) == B
        with pytest.raises(NoRoom):
            await rig.coordinator.admit(C, only_if_room=True)
        # Who has a process is told the way to it.
        assert await rig.coordinator.admit(B, only_if_room=True) == B
        await rig.clock.pass_time(RESTED)
        rig.coordinator.used([B])
        asked = asyncio.ensure_future(rig.coordinator.admit(C, only_if_room=True))
        await rig.clock.pass_time(0.1)
        assert await asked == C
        assert rig.homes.left == [A]


async def test_the_room_that_is_told_of_counts_those_who_wait_and_those_who_start() -> None:
    rig = Rig(FakeHomes({N1: 3, N2: 1}, starts_at_once=2))
    assert rig.coordinator.room() == Room(free=0, rested=0, slots=0)
    async with rig.running():
        await rig.clock.pass_time(0.1)
        assert rig.coordinator.room() == Room(free=4, rested=0, slots=2)
        rig.homes.gate.clear()
        asked = [asyncio.ensure_future(rig.coordinator.admit(each)) for each in (A, B, C)]
        await rig.clock.pass_time(0.1)
        assert rig.coordinator.room() == Room(free=1, rested=0, slots=0)
        rig.homes.gate.set()
        await rig.clock.pass_time(RESTED)
        await asyncio.gather(*asked)
        assert rig.coordinator.room() == Room(free=1, rested=3, slots=2)


async def test_one_that_is_busy_stays_and_the_next_leaves() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        assert await rig.admitted(A)
        assert await rig.admitted(B)
        rig.homes.busy = {A}
        assert await rig.admitted(C)
        assert rig.homes.left == [B]


async def test_while_all_are_busy_those_who_wait_keep_their_order() -> None:
    async with Rig(FakeHomes({N1: 1})).running() as rig:
        assert await rig.admitted(A)
        rig.homes.busy = {A, B, C, D}
        waiting = {each: asyncio.ensure_future(rig.coordinator.admit(each)) for each in (B, C, D)}
        await rig.clock.pass_time(1)
        assert list(rig.coordinator.waiting) == [B, C, D]
        for first, then in ((A, B), (B, C), (C, D)):
            rig.homes.busy -= {first}
            await rig.clock.pass_time(0.2)
            assert waiting[then].done()
        assert rig.homes.started == [A, B, C, D]
        assert rig.homes.most_there == 1


async def test_who_asks_again_keeps_the_place_and_who_does_not_loses_it() -> None:
    async with Rig(FakeHomes({N1: 1})).running() as rig:
        assert await rig.admitted(A)
        rig.homes.busy = {A}
        asked = [asyncio.ensure_future(rig.coordinator.admit(each)) for each in (B, C)]
        await rig.clock.pass_time(2.5)
        assert [await each for each in asked] == [None, None]
        again = asyncio.ensure_future(rig.coordinator.admit(C))
        await rig.clock.pass_time(1.5)
        assert list(rig.coordinator.waiting) == [C]
        rig.homes.busy = set()
        await rig.clock.pass_time(0.2)
        assert await again == C
        assert rig.homes.started == [A, C]


async def test_those_without_a_command_for_long_leave_and_others_stay() -> None:
    async with Rig(FakeHomes({N1: 3}), ProcessLimits(idle_after=10.0)).running() as rig:
        for entity_id in (A, B):
            assert await rig.admitted(entity_id)
        await rig.clock.pass_time(6)
        rig.coordinator.used([B])
        await rig.clock.pass_time(6)
        assert rig.homes.left == [A]
        assert set(rig.coordinator.live) == {B}


async def test_an_entity_that_knows_better_when_it_was_used_is_asked_again_later() -> None:
    async with Rig(FakeHomes({N1: 3}), ProcessLimits(idle_after=10.0)).running() as rig:
        assert await rig.admitted(A)
        rig.homes.rested = {A: 3.0}
        await rig.clock.pass_time(15)
        assert rig.homes.left == []
        rig.homes.rested = {}
        await rig.clock.pass_time(10)
        assert rig.homes.left == [A]


async def test_entities_are_spread_over_nodes() -> None:
    async with Rig(FakeHomes({N1: 2, N2: 4})).running() as rig:
        for number in range(6):
            assert await rig.admitted(EntityId(str(number)))
        assert Counter(rig.homes.there.values()) == {N1: 2, N2: 4}


async def test_a_bound_that_was_set_counts_for_every_node() -> None:
    async with Rig(FakeHomes({N1: 50, N2: 50}), ProcessLimits(most_per_node=1)).running() as rig:
        for entity_id in (A, B, C):
            assert await rig.admitted(entity_id)
        assert rig.homes.most_there == 2


async def test_no_more_are_started_at_once_than_is_of_use() -> None:
    async with Rig(FakeHomes({N1: 10}, starts_at_once=2)).running() as rig:
        rig.homes.gate.clear()
        asked = [asyncio.ensure_future(rig.coordinator.admit(each)) for each in (A, B, C)]
        await rig.clock.pass_time(1)
        assert rig.homes.started == [A, B]
        rig.homes.gate.set()
        await rig.clock.pass_time(0.1)
        assert [each.done() for each in asked] == [True] * 3


async def test_a_process_that_cannot_be_started_leaves_its_room_to_others() -> None:
    async with Rig(FakeHomes({N1: 1})).running() as rig:
        rig.homes.broken = {A}
        asked = asyncio.ensure_future(rig.coordinator.admit(A))
        await rig.clock.pass_time(0.1)
        with pytest.raises(EntityLost):
            await asked
        assert await rig.admitted(B)


async def test_a_new_coordinator_learns_who_is_there_before_it_admits_anyone() -> None:
    homes = FakeHomes({N1: 2})
    homes.there = {A: N1, B: N1}
    async with Rig(homes).running() as rig:
        assert await rig.admitted(C)
        assert homes.most_there == 2
        assert len(homes.left) == 1


async def test_the_room_of_one_that_died_is_free_with_the_next_count() -> None:
    async with Rig(FakeHomes({N1: 1})).running() as rig:
        assert await rig.admitted(A)
        del rig.homes.there[A]
        rig.homes.busy = {A}
        assert await rig.admitted(B, within=COUNT_EVERY + 1) or await rig.admitted(B, within=COUNT_EVERY)
        assert set(rig.coordinator.live) == {B}


async def test_too_many_are_told_of_once_a_minute_with_the_other_placement(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with Rig(FakeHomes({N1: 1})).running() as rig:
        for number in range(40):
            assert await rig.admitted(EntityId(str(number)))
        told = [record for record in caplog.records if "COS_ENTITY_PLACEMENT=sharded" in record.message]
        assert len(told) == 1
        for number in range(40, 80):
            assert await rig.admitted(EntityId(str(number)))
        told = [record for record in caplog.records if "COS_ENTITY_PLACEMENT=sharded" in record.message]
        assert len(told) == 2


async def test_a_coordinator_is_ready_when_all_nodes_are_prepared_and_processes_are_warm() -> None:
    homes = FakeHomes({N1: 3, N2: 2})
    homes.preparing.clear()
    async with Rig(homes).running() as rig:
        ready = asyncio.create_task(rig.coordinator.ready())
        await rig.clock.pass_time(10)
        assert not ready.done()
        assert sorted(homes.warmed) == [(N1, 3), (N2, 2)]
        # Whoever comes early is not turned away.
        assert await rig.admitted(A)
        homes.preparing.set()
        await ready
        assert sorted(homes.prepared) == [N1, N2]
        assert sorted(homes.warmed[-2:]) == [(N1, 2), (N2, 2)]


async def test_a_node_that_cannot_be_prepared_holds_up_nothing() -> None:
    homes = FakeHomes({N1: 1, N2: 1})
    homes.unprepared = {N1}
    async with Rig(homes).running() as rig:
        await rig.coordinator.ready()
        assert homes.prepared == [N2]
        assert await rig.admitted(A)
        assert await rig.admitted(B)


async def test_a_node_that_joins_is_prepared() -> None:
    homes = FakeHomes({N1: 1})
    async with Rig(homes).running() as rig:
        await rig.coordinator.ready()
        homes.by_node = {N1: 1, N2: 1}
        await rig.clock.pass_time(5.1)
        assert homes.prepared == [N1, N2]


async def test_processes_that_were_used_up_are_made_up_for_when_there_is_time() -> None:
    async with Rig(FakeHomes({N1: 5})).running() as rig:
        await rig.clock.pass_time(1.1)
        assert rig.homes.warmed == [(N1, 5)]
        rig.homes.gate.clear()
        for entity_id in (A, B):
            assert await rig.admitted(entity_id)
        assert len(rig.homes.warmed) == 1
        rig.homes.gate.set()
        await rig.clock.pass_time(1.1)
        assert rig.homes.warmed[1:] == [(N1, 3)]
        # The way to one that is there already takes no process.
        assert await rig.admitted(A, within=1.1)
        assert len(rig.homes.warmed) == 2
