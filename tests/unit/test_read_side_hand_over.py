"""Two releases of a service at once, and a process that is cut off: an entity's events stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import timedelta

import pytest

from cos_ray.domain.errors import ClaimLost, DeliveryFailed, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Shard
from cos_ray.domain.read_sides import DropLetters, Replay, RetryLetters, ShardState
from cos_ray.domain.shard_leases import Lease, LeaseRank
from cos_ray.readside.read_side import ReadSide
from cos_ray.testing.offsets import MemoryReadSides
from cos_ray.testing.read_handlers import Attempt, Outcome, RecordingBatchHandler, RecordingReadHandler
from tests.support.read_side import READ_SIDE, World

S0 = Shard(0)
A = EntityId("a")
EVERY_SECOND = Backoff(timedelta(seconds=1), timedelta(seconds=1))
PARKS = DeliveryPolicy(retries=2, waits=EVERY_SECOND, last_resort=LastResort.PARK)


class CutOff(MemoryReadSides):
    """Those that are cut off do not reach it."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.cut_off: set[Owner | None] = set()

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        if owner in self.cut_off:
            raise JournalUnavailable("cut off")
        return await super().keep(read_side, owner, lasts)

    async def save(self, read_side: ReadSideId, offsets, owner: Owner, known):  # type: ignore[no-untyped-def]
        if owner in self.cut_off:
            raise JournalUnavailable("cut off")
        return await super().save(read_side, offsets, owner, known)

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        if owner in self.cut_off:
            raise JournalUnavailable("cut off")
        await super().release(read_side, shards, owner, run)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shown() -> list[int]:
    """The revisions that any release's handler was shown, in order."""
    return []


def handler_of(shown: list[int], refused: int | None = None) -> RecordingReadHandler:
    async def see(attempt: Attempt) -> None:
        shown.append(attempt.revision)
        if attempt.revision == refused:
            raise DeliveryFailed("not now")

    return RecordingReadHandler(see)


def state(read_side: ReadSide) -> ShardState:
    return read_side.status()[0].state


def is_had_by_another(world: World) -> None:
    """Somebody takes the shard, and the process that had it is not told."""
    claim = world.offsets.claims[READ_SIDE, S0]
    claim.owner, claim.standing = Owner("another"), LeaseRank(9, True, 9)


class TestTheNewerRelease:
    async def test_is_handed_the_shards_and_nobody_is_shown_an_older_event_after_newer_ones(
        self, world: World, shown: list[int]
    ) -> None:
        world.served = handler_of(shown, refused=2)
        world.source.add(0, "a", 2)
        old = world.build([0], release="old", policy=DeliveryPolicy(waits=EVERY_SECOND))
        async with world.alive(old):
            await world.clock.until(lambda: 2 in shown)
            world.served = handler_of(shown)
            new = world.build([0], release="new")
            async with world.alive(new):
                world.source.add(0, "a", 3)
                await world.clock.until(lambda: 5 in shown, within=5)
                await world.clock.advance(10)
                assert shown == sorted(shown)
                assert (state(old), state(new)) == (ShardState.ELSEWHERE, ShardState.RUNNING)

    @pytest.mark.parametrize("batch", [0, 5])
    async def test_begins_when_what_was_under_way_has_ended_and_not_before(
        self, world: World, batch: int
    ) -> None:
        slow = RecordingBatchHandler(batch) if batch else RecordingReadHandler()
        world.served = slow
        world.source.add(0, "a", 2)
        gate = slow.hang("a", 2)
        async with world.alive(world.build([0], release="old")):
            await world.clock.advance(1)
            world.served = world.handler
            async with world.alive(world.build([0], release="new")):
                # It goes on being claimed, however long it takes.
                await world.clock.advance(20)
                assert world.handler.attempts == []
                gate.set()
                world.source.add(0, "a")
                await world.clock.until(lambda: world.handler.attempts, within=1)
                assert slow.confirmed() == [1, 2]
                # All that was confirmed is saved: nothing comes twice.
                await world.clock.until(lambda: world.handler.confirmed() == [3])

    async def test_is_handed_what_the_older_one_cannot_open(self, world: World) -> None:
        world.offsets.is_down = True
        old = world.build([0], release="old")
        async with world.alive(old):
            await world.clock.advance(1)
            first = world.offsets.owner(READ_SIDE, S0)
            new = world.build([0], release="new")
            async with world.alive(new):
                await world.clock.until(lambda: world.offsets.owner(READ_SIDE, S0) != first, within=5)
                world.offsets.is_down = False
                await world.clock.until(lambda: state(new) is ShardState.RUNNING, within=10)
                assert state(old) is not ShardState.RUNNING

    async def test_begins_without_what_takes_longer_than_a_delivery_may(self, world: World) -> None:
        world.served = slow = RecordingReadHandler()
        world.source.add(0, "a")
        slow.hang("a", 1)
        async with world.alive(world.build([0], release="old", hand_over=timedelta(seconds=5))):
            await world.clock.advance(1)
            world.served = world.handler
            async with world.alive(world.build([0], release="new")):
                await world.clock.until(world.handler.confirmed, within=9)
                assert [attempt.outcome for attempt in slow.attempts] == [Outcome.FAILED]

    async def test_keeps_its_shards_when_the_older_ones_process_starts_again(self, world: World) -> None:
        old, new = world.build([0], release="old"), world.build([0], release="new")
        async with world.alive(old), world.alive(new):
            await world.clock.until(lambda: state(new) is ShardState.RUNNING)
            again = world.build([0], release="old")
            async with world.alive(again):
                for _ in range(20):
                    await world.clock.advance(1)
                    assert (state(old), state(new), state(again)) == (
                        ShardState.ELSEWHERE,
                        ShardState.RUNNING,
                        ShardState.ELSEWHERE,
                    )

    @pytest.mark.parametrize("in_good_order", [True, False])
    async def test_leaves_them_to_the_older_one_when_it_is_gone(
        self, world: World, in_good_order: bool
    ) -> None:
        old = world.build([0], release="old")
        async with world.alive(old):
            new = world.build([0], release="new")
            if in_good_order:
                async with world.alive(new):
                    await world.clock.until(lambda: state(new) is ShardState.RUNNING)
            else:
                run = asyncio.ensure_future(new.run())
                await world.clock.until(lambda: state(new) is ShardState.RUNNING)
                run.cancel()
            world.source.add(0, "a", 3)
            await world.clock.until(world.all_confirmed, within=4 if in_good_order else 12)
            assert state(old) is ShardState.RUNNING

    async def test_gets_them_back_when_it_was_only_cut_off(self, world: World) -> None:
        world.offsets = offsets = CutOff(world)
        old, new = world.build([0], release="old"), world.build([0], release="new")
        async with world.alive(old), world.alive(new):
            await world.clock.until(lambda: state(new) is ShardState.RUNNING)
            offsets.cut_off = {offsets.owner(READ_SIDE, S0)}
            await world.clock.until(lambda: state(old) is ShardState.RUNNING, within=12)
            offsets.cut_off = set()
            await world.clock.until(lambda: state(new) is ShardState.RUNNING, within=6)
            await world.clock.advance(10)
            assert (state(old), state(new)) == (ShardState.ELSEWHERE, ShardState.RUNNING)


async def test_a_hand_over_that_cannot_be_saved_is_done_later_and_deliveries_go_on(world: World) -> None:
    old = world.build([0], release="old")
    async with world.alive(old):
        world.source.add(0, "a")
        await world.clock.until(world.all_confirmed)
        world.offsets.is_down = True
        world.source.add(0, "a")
        await world.clock.until(world.all_confirmed)
        new = world.build([0], release="new")
        async with world.alive(new):
            await world.clock.advance(6)
            assert state(new) is ShardState.ELSEWHERE
            world.offsets.is_down = False
            world.handler.begin_life()
            world.source.add(0, "a")
            await world.clock.until(world.all_confirmed)
            await world.clock.until(lambda: state(new) is ShardState.RUNNING, within=8)


async def test_a_hand_over_that_cannot_be_saved_is_off_when_whoever_asked_is_gone(world: World) -> None:
    world.offsets = offsets = NothingSaved(world)
    old = world.build([0], release="old")
    async with world.alive(old):
        world.source.add(0, "a")
        await world.clock.until(world.all_confirmed)
        dying = asyncio.ensure_future(world.build([0], release="new").run())
        # The older one has seen that it is asked, and has tried.
        await world.clock.until(lambda: offsets.claims[READ_SIDE, S0].heir)
        await world.clock.advance(2.2)
        dying.cancel()
        await world.clock.advance(12)
        world.source.add(0, "a")
        await world.clock.until(world.all_confirmed)
        # It went on where it was, though that is stored nowhere.
        assert world.handler.confirmed() == [1, 2]
        offsets.saves_nothing = False


class NothingSaved(CutOff):
    """Offsets cannot be saved, and all else is well."""

    saves_nothing = True

    async def save(self, read_side: ReadSideId, offsets, owner: Owner, known):  # type: ignore[no-untyped-def]
        if self.saves_nothing:
            raise JournalUnavailable("planted")
        return await super().save(read_side, offsets, owner, known)


class TestOneThatIsCutOff:
    async def test_cuts_short_what_is_under_way_before_anybody_may_have_the_shard(self, world: World) -> None:
        world.offsets = offsets = CutOff(world)
        world.served = slow = RecordingReadHandler()
        world.source.add(0, "a")
        slow.hang("a", 1)
        old = world.build([0])
        world.served = world.handler
        async with world.alive(old):
            await world.clock.until(lambda: slow.under_way)
            other = world.build([0], home=[])
            async with world.alive(other):
                offsets.cut_off = {offsets.owner(READ_SIDE, S0)}
                await world.clock.until(lambda: not slow.under_way, within=10)
                assert world.handler.attempts == []
                await world.clock.until(lambda: world.handler.confirmed() == [1], within=10)
                assert len(slow.attempts) == 1

    async def test_begins_nothing_and_goes_on_where_it_was_when_it_is_heard_in_time(
        self, world: World
    ) -> None:
        world.offsets = offsets = CutOff(world)
        policy = DeliveryPolicy(retries=0, last_resort=LastResort.SKIP)
        read_side = world.build([0], policy=policy)
        async with world.alive(read_side):
            world.source.add(0, "a")
            await world.clock.until(world.all_confirmed)
            gate = world.handler.hang("a", 2)
            world.source.add(0, "a")
            await world.clock.until(lambda: world.handler.under_way)
            offsets.cut_off = {offsets.owner(READ_SIDE, S0)}
            await world.clock.until(lambda: not world.handler.under_way, within=10)
            world.source.add(0, "b")
            read_side.notify([S0])
            await world.clock.advance(10)
            assert world.handler.under_way == 0
            world.handler.heal()
            gate.set()
            offsets.cut_off = set()
            await world.clock.until(world.all_confirmed, within=3)
            # What was cut short has not failed.
            assert read_side.status()[0].skipped == read_side.status()[0].failures == 0

    async def test_stops_within_its_lease(self, world: World) -> None:
        world.offsets = offsets = CutOff(world)
        world.handler.hang("a", 1)
        world.source.add(0, "a")
        read_side = world.build([0], drain=timedelta(seconds=30))
        run = asyncio.ensure_future(read_side.run())
        await world.clock.until(lambda: world.handler.under_way)
        offsets.cut_off = {offsets.owner(READ_SIDE, S0)}
        stop = asyncio.ensure_future(read_side.stop())
        await world.clock.until(lambda: not world.handler.under_way, within=8)
        await world.clock.until(stop.done)
        await run

    async def test_keeps_its_claims_as_long_as_stopping_takes(self, world: World) -> None:
        gate = world.handler.hang("a", 1)
        world.source.add(0, "a")
        read_side = world.build([0], drain=timedelta(seconds=30))
        run = asyncio.ensure_future(read_side.run())
        await world.clock.until(lambda: world.handler.under_way)
        stop = asyncio.ensure_future(read_side.stop())
        async with world.alive(world.build([0], home=[])):
            await world.clock.advance(20)
            assert len(world.handler.attempts) == 1
            gate.set()
            await world.clock.until(stop.done)
            await run
            assert world.saved(0) == world.source.events(0)[-1].offset


class TestOneThatHasLostTheShard:
    @pytest.fixture
    def refuses(self, world: World, shown: list[int]) -> None:
        world.served = handler_of(shown, refused=1)
        world.source.add(0, "a", 2)

    @pytest.mark.usefixtures("refuses")
    async def test_sets_nothing_aside_and_lets_go(self, world: World) -> None:
        old = world.build([0], policy=PARKS, lease=LONG)
        async with world.alive(old):
            await world.clock.advance(1)
            is_had_by_another(world)
            await world.clock.advance(4)
            assert not world.letters.kept[READ_SIDE]
            assert state(old) is ShardState.ELSEWHERE

    @pytest.mark.usefixtures("refuses")
    async def test_sets_aside_no_later_event_of_an_entity_either(self, world: World) -> None:
        old = world.build([0], policy=PARKS, lease=LONG)
        async with world.alive(old):
            await world.clock.until(lambda: len(world.letters.kept[READ_SIDE]) == 2)
            # The last save is over.
            await world.clock.advance(1)
            is_had_by_another(world)
            world.source.add(0, "a")
            old.notify([S0])
            await world.clock.advance(1)
            assert len(world.letters.kept[READ_SIDE]) == 2
            assert state(old) is ShardState.ELSEWHERE

    @pytest.mark.usefixtures("refuses")
    @pytest.mark.parametrize(
        "order", [DropLetters(S0, A), RetryLetters({S0: (A,)}, 10.0), Replay({S0: Offset(0)})]
    )
    async def test_does_nothing_that_an_operator_wants(self, world: World, order) -> None:  # type: ignore[no-untyped-def]
        old = world.build([0], policy=PARKS, lease=LONG)
        async with world.alive(old):
            await world.clock.until(lambda: len(world.letters.kept[READ_SIDE]) == 2)
            await world.clock.advance(1)
            is_had_by_another(world)
            obeying = asyncio.ensure_future(old.obey(order))
            if isinstance(order, RetryLetters):
                await world.clock.until(obeying.done)
                # The handler refuses it still.
                assert obeying.result().count == 0
            else:
                await world.clock.until(obeying.done)
                with pytest.raises(ClaimLost):
                    obeying.result()
                assert state(old) is ShardState.ELSEWHERE
            assert len(world.letters.kept[READ_SIDE]) == 2


LONG = Lease(*(timedelta(hours=hours) for hours in (1, 2, 3, 4)))


async def test_a_dead_letter_under_way_is_cut_short_like_any_delivery(world: World) -> None:
    world.offsets = offsets = CutOff(world)
    world.handler.fail("a", 1)
    world.source.add(0, "a")
    async with world.running([0], policy=PARKS) as read_side:
        await world.clock.until(lambda: world.letters.kept[READ_SIDE])
        world.handler.heal()
        world.handler.hang("a", 1)
        obeying = asyncio.ensure_future(read_side.obey(RetryLetters({S0: (A,)}, 15.0)))
        await world.clock.until(lambda: world.handler.under_way)
        offsets.cut_off = {offsets.owner(READ_SIDE, S0)}
        await world.clock.until(lambda: not world.handler.under_way, within=8)
        await world.clock.until(obeying.done)
        assert "not certain to be ours" in obeying.result().failed[0]
        offsets.cut_off = set()
        world.handler.heal()


class TestALease:
    def test_lets_begin_for_a_while_and_ends_before_others_may_have_the_shard(self) -> None:
        lease = Lease()
        assert lease.may_begin(100.0, 104.9)
        assert not lease.may_begin(100.0, 105.0)
        assert 105.0 < lease.ends_at(100.0) < 100.0 + lease.lasts.total_seconds()

    def test_that_would_end_after_others_may_have_the_shard_is_refused(self) -> None:
        with pytest.raises(ValueError, match="run down before it is over"):
            Lease(lasts=timedelta(seconds=7))

    def test_standings_compare_release_first_then_home_then_run(self) -> None:
        falling = [
            LeaseRank(2, False, 1),
            LeaseRank(1, True, 3),
            LeaseRank(1, True, 2),
            LeaseRank(1, False, 9),
        ]
        assert sorted(falling) == falling[::-1]
