"""Who is awake: woken by a command, passivated when idle or when there are too many, never in the middle."""

from __future__ import annotations

import asyncio
from itertools import count

from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import Accepted, Command, Packed
from cos_ray.domain.passivation import LiveLimits
from cos_ray.placement.live_entities import LiveEntities
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler, count_of
from cos_ray.writeside.entity import OWN_OCTETS, Entity

serials = count(1)


class Home:
    """Live entities over a journal in memory."""

    def __init__(self, limits: LiveLimits) -> None:
        self.handler = CountingWriteHandler()
        self.journal = MemoryJournal()
        self.clock = ManualClock()
        self.live = LiveEntities(self._activate, limits, self.clock)

    def _activate(self, entity_id: EntityId) -> Entity:
        return Entity(entity_id, Shard(0), self.handler, self.journal, self.clock)

    async def send(self, entity: str, times: int = 1) -> int:
        """The count after the command."""
        command = Command(EntityId(entity), Packed(b"%d" % times), CommandId(f"c{next(serials)}"), 1000.0)
        reply = await self.live.process(command)
        assert isinstance(reply, Accepted), reply
        return count_of(reply.state.state)


async def test_an_idle_entity_is_passivated_and_wakes_as_it_was() -> None:
    home = Home(LiveLimits(idle_after=60))
    await home.send("a", 2)
    await home.send("b")
    home.clock.advance(50)
    await home.send("b")
    home.clock.advance(20)
    home.live.passivate_idle()
    assert (len(home.live), home.live.passivations) == (1, 1)
    assert await home.send("a") == 3
    assert home.live.activations == 3


async def test_idle_entities_leave_by_themselves() -> None:
    home = Home(LiveLimits(idle_after=60))
    tidying = asyncio.ensure_future(home.live.keep_tidy())
    await home.send("a")
    await home.clock.pass_time(62)
    assert len(home.live) == 0
    tidying.cancel()


async def test_beyond_the_count_who_was_used_longest_ago_leaves() -> None:
    home = Home(LiveLimits(entities=2))
    for entity in "abac":
        await home.send(entity)
    assert len(home.live) == 2
    assert await home.send("a") == 3
    assert home.live.activations == 3  # a was never away
    assert await home.send("b") == 2
    assert home.live.activations == 4


async def test_beyond_the_memory_who_was_used_longest_ago_leaves() -> None:
    home = Home(LiveLimits(octets=3 * OWN_OCTETS + 100))
    for entity in "abcdefg":
        await home.send(entity)
    assert len(home.live) == 3
    assert home.live.octets <= 3 * OWN_OCTETS + 100


async def test_an_entity_in_the_middle_of_a_command_stays() -> None:
    home = Home(LiveLimits(entities=1, idle_after=10))
    home.handler.gate.clear()
    first = asyncio.ensure_future(home.send("a"))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(home.send("b"))
    await asyncio.sleep(0)
    home.clock.advance(100)
    home.live.passivate_idle()
    assert len(home.live) == 2
    third = asyncio.ensure_future(home.send("a"))
    home.handler.gate.set()
    assert sorted(await asyncio.gather(first, second, third)) == [1, 1, 2]
    assert home.live.activations == 2


async def test_released_entities_end_what_they_have_begun_first() -> None:
    home = Home(LiveLimits())
    await home.send("stays")
    home.handler.gate.clear()
    running = [asyncio.ensure_future(home.send("leaves")) for _ in range(3)]
    await asyncio.sleep(0)
    release = asyncio.ensure_future(home.live.release(lambda entity_id: entity_id == "leaves"))
    for _ in range(100):  # All that can go on does.
        await asyncio.sleep(0)
    assert not release.done()
    home.handler.gate.set()
    await asyncio.wait_for(release, 5)
    assert sorted(await asyncio.gather(*running)) == [1, 2, 3]
    assert len(home.live) == 1


async def test_what_all_weigh_is_what_each_weighs() -> None:
    home = Home(LiveLimits(entities=5))
    for number in range(200):
        await home.send(f"e{number * 7 % 11}", times=1 + number % 3)
    await home.live.release(lambda _: True)
    assert (len(home.live), home.live.octets) == (0, 0)
