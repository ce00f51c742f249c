"""Processes of entities that are there, but do not answer."""

from __future__ import annotations

import asyncio

from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import ProcessLimits
from cos_ray.placement.process_coordinator import SLOT_FOR
from tests.support.process_coordinator import N1, A, B, C, D, FakeHomes, Rig

E = EntityId("e")

SOME_SECONDS = 10.0


async def test_one_that_hangs_is_replaced_when_its_callers_say_so() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        assert await rig.admitted(A)
        rig.homes.hang(A)
        rig.coordinator.suspect([A])
        await rig.clock.pass_time(SOME_SECONDS)
        assert rig.homes.killed == [A]
        assert set(rig.coordinator.live) == set()
        assert await rig.admitted(A)
        assert rig.homes.started == [A, A]


async def test_one_that_answers_is_left_alone_however_long_its_commands_take() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        assert await rig.admitted(A)
        rig.homes.busy = {A}
        for _ in range(30):
            rig.coordinator.suspect([A])
            await rig.clock.pass_time(1)
        assert rig.homes.killed == []


async def test_one_that_is_asked_for_again_while_it_hangs_is_replaced() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        rig.homes.patience = 60.0
        assert await rig.admitted(A)
        rig.homes.hang(A)
        assert await rig.admitted(A)
        await rig.clock.pass_time(SOME_SECONDS)
        assert rig.homes.killed == [A]


async def test_at_the_bound_one_that_hangs_holds_nobody_up_and_leaves_its_room() -> None:
    async with Rig(FakeHomes({N1: 3})).running() as rig:
        for entity_id in (A, B, C):
            assert await rig.admitted(entity_id)
        rig.homes.hang(A)
        # A was used longest ago.
        assert await rig.admitted(D, within=1.5)
        assert rig.homes.left == [B]
        for number in range(20):
            assert await rig.admitted(EntityId(str(number)), within=0.5)
        await rig.clock.pass_time(SOME_SECONDS)
        assert rig.homes.killed == [A]
        assert rig.homes.most_there == 3


async def test_where_several_hang_the_others_leave() -> None:
    async with Rig(FakeHomes({N1: 4})).running() as rig:
        for entity_id in (A, B, C, D):
            assert await rig.admitted(entity_id)
        for entity_id in (A, B, C):
            rig.homes.hang(entity_id)
        # One after the other is found silent; whoever waits keeps the place by asking again.
        assert not await rig.admitted(E, within=2.5)
        assert await rig.admitted(E, within=1.0)
        assert rig.homes.left == [D]
        await rig.clock.pass_time(SOME_SECONDS)
        assert sorted(rig.homes.killed) == [A, B, C]


async def test_resting_ones_that_hang_are_ended_and_the_others_leave_meanwhile() -> None:
    homes = FakeHomes({N1: 20})
    async with Rig(homes, ProcessLimits(idle_after=10.0)).running() as rig:
        hanging = [EntityId(f"h{number}") for number in range(8)]
        for entity_id in (*hanging, A):
            assert await rig.admitted(entity_id, within=0.0)
        for entity_id in hanging:
            rig.homes.hang(entity_id)
        await rig.clock.pass_time(14)
        assert rig.homes.left == [A]
        await rig.clock.pass_time(SOME_SECONDS)
        assert sorted(rig.homes.killed) == hanging
        assert set(rig.coordinator.live) == set()


async def test_starts_that_hang_hold_up_others_for_some_seconds_only_and_are_ended() -> None:
    async with Rig(FakeHomes({N1: 10}, starts_at_once=1)).running() as rig:
        rig.homes.patience = 60.0
        rig.homes.hang(A)
        assert await rig.admitted(A)
        assert not await rig.admitted(B)
        await rig.clock.pass_time(SLOT_FOR)
        assert await rig.admitted(B)
        await rig.clock.pass_time(60)
        assert rig.homes.killed == [A]


async def test_a_coordinator_that_was_held_up_itself_mistakes_nobody_for_silent() -> None:
    async with Rig(FakeHomes({N1: 2})).running() as rig:
        assert await rig.admitted(A)
        rig.homes.hang(A)
        rig.coordinator.suspect([A])
        await rig.clock.pass_time(2.5)
        # All stand still for a minute; on waking, the coordinator's own timers come first.
        rig.clock.advance(60)
        await asyncio.sleep(0)
        rig.homes.hung.pop(A).set()
        await rig.clock.pass_time(SOME_SECONDS)
        assert rig.homes.killed == []


async def test_the_way_to_one_that_hangs_takes_no_start_from_others() -> None:
    async with Rig(FakeHomes({N1: 10}, starts_at_once=1)).running() as rig:
        assert await rig.admitted(A)
        rig.homes.hang(A)
        assert await rig.admitted(A, within=0.0)
        assert await rig.admitted(B, within=0.5)
