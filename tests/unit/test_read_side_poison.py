"""An entity that fails for good holds up nobody else, however many events it or others have."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cos_ray.domain.errors import DeliveryFailed, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.read_sides import Replay, ReplayEntities, ShardState, Skip
from cos_ray.readside.read_side import ReadSide
from cos_ray.testing.read_handlers import RecordingBatchHandler
from tests.support.read_side import World

S0 = Shard(0)
BAD = EntityId("bad")
NARROW = {"batch": 10, "look_ahead": 30}


@pytest.fixture
def world() -> World:
    return World()


def held(read_side: ReadSide, shard: int = 0) -> int:
    return len(read_side._projections[Shard(shard)].window)


async def test_poison_beyond_what_is_held_at_once_stops_nobody(world):
    world.handler.fail("bad", 1)
    before = world.source.add(0, "other", 3)
    world.source.add(0, "bad")
    for number in range(3_000):
        world.source.add(0, f"good{number % 50}")
    async with world.running() as read_side:
        await world.clock.until(lambda: len(world.handler.confirmed()) == 3_003)
        await world.clock.advance(100)
        assert world.handler.confirmed("bad") == []
        assert (world.saved(0), world.shard(0).state) == (before, ShardState.RETRYING)
        # What comes new is delivered at once, too.
        world.source.add(0, "good0")
        read_side.notify([S0])
        await world.clock.until(lambda: world.handler.confirmed("good0")[-1] == 61)
        world.handler.heal()
        await world.clock.until(world.all_confirmed)
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)


async def test_its_own_later_events_however_many_wait_in_the_journal(world):
    world.handler.fail("bad", 2)
    world.source.add(0, "bad", 3_000)
    world.source.add(0, "good", 50)
    async with world.running(**NARROW) as read_side:
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 50)
        world.source.add(0, "bad", 1_000)
        world.source.add(0, "good", 50)
        read_side.notify([S0])
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        assert world.handler.confirmed("bad") == [1]
        assert world.saved(0) == world.source.events(0)[0].offset
        assert held(read_side) == 1
        assert world.shard(0).pending == 3_999
        world.handler.heal()
        await world.clock.until(world.all_confirmed, within=300)
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
        assert world.shard(0).pending == 0


async def test_never_is_more_held_than_the_settings_say(world):
    most = 0

    async def look(_attempt) -> None:
        nonlocal most
        most = max(most, held(world.read_side))

    world.handler._before = look
    for number in range(8):
        world.handler.fail(f"e{number}", 1 + number % 3, times=6)
    for round_ in range(60):
        for number in range(20):
            world.source.add(0, f"e{(number * round_) % 20}")
    async with world.running(**NARROW):
        await world.clock.until(world.all_confirmed, within=600)
    assert most <= 30


async def test_where_too_many_fail_reading_stops_until_they_do_not(world):
    for number in range(40):
        world.handler.fail(f"e{number}")
        world.source.add(0, f"e{number}", 2)
    world.source.add(0, "good", 5)
    async with world.running(**NARROW) as read_side:
        await world.clock.advance(100)
        assert world.handler.confirmed("good") == []
        assert 20 < held(read_side) <= 30
        assert world.shard(0).state is ShardState.RETRYING
        world.handler.heal()
        await world.clock.until(world.all_confirmed)


async def test_large_events_are_held_by_their_bytes_and_a_failing_one_stops_no_other_shard(world):
    world.handler.fail("bad")
    for shard in (0, 1):
        for number in range(40):
            is_bad = shard == 0 and number == 0
            world.source.add(shard, "bad" if is_bad else f"good{shard}", padding=1_000)
    async with world.running(look_ahead_octets=20_000, batch=4, look_ahead=400) as read_side:
        most = 0
        while len(world.handler.confirmed()) < 79:
            await world.clock.advance(0.05)
            most = max(most, read_side._projections[S0]._held.octets)
        assert most < 20_000 + 4 * 2 * 3_000


@pytest.mark.parametrize("shards", [1, 4])
async def test_where_nothing_is_confirmed_as_many_bytes_are_held_as_may_be(world, shards):
    world.handler.hang()
    for number in range(200):
        world.source.add(number % shards, f"e{number}", padding=1_000)
    async with world.running(range(shards), look_ahead_octets=40_000, batch=2, drain=timedelta(0)) as it:
        await world.clock.advance(30)
        octets = it._projections[S0]._held.octets
        # An event and its state take 2,500 bytes. Beyond the bound goes what one read of a shard brings.
        assert 40_000 < octets <= 40_000 + shards * 2 * 2_600


async def test_as_many_bytes_are_under_way_as_may_be(world):
    gate = world.handler.hang()
    for number in range(20):
        world.source.add(0, f"e{number}", padding=1_000)
    async with world.running(concurrent_octets=6_000):
        await world.clock.advance(1)
        # Each event takes 1,000 bytes, its state as many, and something beside.
        assert world.handler.under_way == 3
        gate.set()
        await world.clock.until(world.all_confirmed)


async def test_one_larger_than_all_that_may_be_under_way_goes_alone(world):
    world.source.add(0, "a", padding=9_000)
    world.source.add(0, "b", padding=9_000)
    async with world.running(concurrent_octets=6_000, look_ahead_octets=1):
        await world.clock.until(world.all_confirmed)
    assert world.handler.most_at_once == 1


async def test_a_call_with_many_events_is_bounded_by_bytes(world):
    world.handler = RecordingBatchHandler(50)
    world.source.add(0, "a", 20, padding=1_000)
    async with world.running(batch_octets=8_000, concurrency=1):
        await world.clock.until(world.all_confirmed)
    assert max(world.handler.calls) == 3


async def test_skipped_its_next_event_is_read_again(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        assert (await world.order(Skip(frozenset([S0])))).count == 1
        await world.clock.until(lambda: world.handler.confirmed("bad") == list(range(2, 101)))
        assert world.shard(0).skipped == 1
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)


async def test_given_up_by_its_policy_all_of_it_is_set_aside(world):
    world.handler.fail("bad", 3)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    quick = Backoff(timedelta(seconds=1), timedelta(seconds=1))
    policy = DeliveryPolicy(20, last_resort=LastResort.PARK, waits=quick)
    async with world.running(policy=policy, **NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        await world.clock.until(lambda: world.shard(0).parked == 98)
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
        assert world.handler.confirmed("bad") == [1, 2]


async def test_replayed_while_it_fails_its_events_come_again_in_order(world):
    world.handler.fail("bad", 60)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        assert (await world.order(ReplayEntities({S0: (BAD,)}))).count == 59
        await world.clock.until(lambda: world.handler.confirmed("bad") == [*range(1, 60)] * 2)
        world.handler.heal()
        await world.clock.until(
            lambda: world.handler.confirmed("bad") == [*range(1, 60), *range(1, 101)], within=200
        )
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)


async def test_an_entity_is_replayed_page_by_page(world):
    world.source.add(0, "bad", 500)
    async with world.running(**NARROW) as read_side:
        await world.clock.until(world.all_confirmed)
        gate = world.handler.hang("bad", 25)
        assert (await world.order(ReplayEntities({S0: (BAD,)}))).count == 500
        await world.clock.advance(5)
        assert held(read_side) <= 10
        gate.set()
        await world.clock.until(lambda: world.handler.confirmed("bad") == [*range(1, 501)] * 2)


async def test_a_replay_of_the_shard_begins_anew(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        world.handler.heal()
        assert (await world.order(Replay({S0: Offset(0)}))).count == 1
        await world.clock.until(lambda: world.handler.confirmed("bad") == list(range(1, 101)))
        await world.clock.until(lambda: world.handler.confirmed("good") == [*range(1, 101)] * 2)


async def test_another_life_begins_with_the_event_that_failed(world):
    world.handler.fail("bad", 5)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
    world.handler.heal()
    async with world.running(**NARROW):
        await world.clock.until(world.all_confirmed)
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
    assert world.handler.confirmed("bad") == list(range(1, 101))


async def test_what_waits_in_the_journal_is_not_handled(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW) as read_side:
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        waiting = asyncio.ensure_future(read_side.handled(S0, BAD, Revision(70), 60))
        assert await read_side.handled(S0, EntityId("good"), Revision(70), 60) is True
        await world.clock.advance(1)
        assert not waiting.done()
        world.handler.heal()
        await world.clock.until(waiting.done)
        assert waiting.result() is True
        assert 70 in world.handler.confirmed("bad")


async def test_a_journal_that_is_down_is_waited_for(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        world.source.is_down = True
        world.handler.heal()
        await world.clock.advance(20)
        assert world.handler.confirmed("bad") == [1]
        assert (world.shard(0).state, world.shard(0).last_error.reason) == (
            ShardState.RETRYING,
            "the journal is down",
        )
        world.source.is_down = False
        await world.clock.until(world.all_confirmed)


@pytest.mark.parametrize("what", ["missing", "unreadable"])
async def test_one_of_its_events_that_cannot_be_read_again_holds_it_until_it_is_skipped(world, what):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    world.source.add(0, "good", 100)
    async with world.running(**NARROW) as read_side:
        await world.clock.until(lambda: len(world.handler.confirmed("good")) == 100)
        place = next(e.offset for e in world.source.events(0) if e.envelope.sequence_number == 42)
        if what == "missing":
            world.source.hide(place)
        else:
            world.source.unreadable.add(place)
        world.handler.heal()
        await world.clock.advance(120)
        assert world.handler.confirmed("bad") == list(range(1, 42))
        assert world.shard(0).state is ShardState.RETRYING
        assert world.shard(0).last_error.revision == 42
        assert world.saved(0) < place
        # Nobody else is concerned.
        world.source.add(0, "good")
        read_side.notify([S0])
        await world.clock.until(lambda: world.handler.confirmed("good")[-1] == 101)
        assert (await world.order(Skip(frozenset([S0])))).count == 1
        await world.clock.until(
            lambda: world.handler.confirmed("bad") == [*range(1, 42), *range(43, 101)], within=200
        )
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)


async def test_one_that_is_there_again_is_delivered(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    async with world.running(**NARROW):
        await world.clock.until(lambda: world.shard(0).failures)
        await world.clock.advance(2)
        world.source.hide(world.source.events(0)[41].offset)
        world.handler.heal()
        await world.clock.advance(60)
        assert world.handler.confirmed("bad") == list(range(1, 42))
        world.source.unhide()
        await world.clock.until(world.all_confirmed)


async def test_nothing_overtakes_what_is_read_again_for_a_replay(world):
    world.handler.fail("bad", 50)
    world.source.add(0, "bad", 100)
    plain = world.source.events_of

    async def slowly(entity_id, first, limit):
        await world.clock.sleep(60)
        return await plain(entity_id, first, limit)

    async with world.running(**NARROW):
        await world.clock.until(lambda: world.shard(0).failures)
        world.source.events_of = slowly
        assert (await world.order(ReplayEntities({S0: (BAD,)}))).count == 49
        world.handler.heal()
        since = len(world.handler.attempts)
        # The event that failed falls due again meanwhile.
        await world.clock.advance(50)
        assert len(world.handler.attempts) == since
        await world.clock.until(lambda: len(world.handler.attempts) > since)
        assert world.handler.attempts[since].revision == 1


async def test_an_order_during_a_reread_does_not_lose_it(world):
    world.handler.fail("bad", 1)
    world.source.add(0, "bad", 100)
    gate = asyncio.Event()
    plain = world.source.events_of

    async def slowly(entity_id, first, limit):
        await gate.wait()
        return await plain(entity_id, first, limit)

    async with world.running(**NARROW):
        await world.clock.until(lambda: world.shard(0).failures)
        await world.clock.advance(2)
        world.source.events_of = slowly
        world.handler.heal()
        await world.clock.until(lambda: world.handler.confirmed("bad") == [1])
        assert (await world.order(ReplayEntities({S0: (BAD,)}))).count == 1
        gate.set()
        await world.clock.until(lambda: world.handler.confirmed("bad") == [1, *range(1, 101)])


async def test_a_fault_of_one_kind_or_another_is_told(world):
    world.handler.fail("bad", 1, error=DeliveryFailed("planted"))
    world.source.add(0, "bad", 100)
    world.source.error = JournalUnavailable("gone")
    async with world.running(**NARROW):
        await world.clock.until(lambda: world.shard(0).failures)
        assert world.shard(0).last_error.reason == "planted"
