"""An entity with a process to itself: how long it has rested, and how it leaves."""

from __future__ import annotations

import asyncio
import itertools

from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import Accepted, Command, Packed, TryElsewhere
from cos_ray.placement.dedicated_entity import FIRST_COMMAND_WITHIN, DedicatedEntity
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity

A = EntityId("a")
serials = itertools.count()


def command() -> Command:
    return Command(A, Packed(b"1"), CommandId(f"c{next(serials)}"), 5.0)


class Home:
    def __init__(self) -> None:
        self.clock, self.handler, self.journal = ManualClock(), CountingWriteHandler(), MemoryJournal()
        entity = Entity(A, Shard(0), self.handler, self.journal, self.clock)
        self.resident = DedicatedEntity(entity, self.clock)


async def test_it_leaves_when_it_has_rested_long_enough() -> None:
    home = Home()
    await home.resident.process(command())
    home.clock.advance(9)
    assert home.resident.leave(10.0) == 9.0
    home.clock.advance(1)
    assert home.resident.leave(10.0) is None


async def test_it_waits_for_the_command_it_was_woken_for() -> None:
    home = Home()
    assert home.resident.leave(0.0) is not None
    home.clock.advance(FIRST_COMMAND_WITHIN)
    assert home.resident.leave(0.0) is None


async def test_with_a_command_in_progress_it_stays() -> None:
    home = Home()
    home.handler.gate.clear()
    running = asyncio.create_task(home.resident.process(command()))
    await asyncio.sleep(0)
    home.clock.advance(4)
    assert home.resident.leave(0.0) == 0.0
    home.handler.gate.set()
    assert isinstance(await running, Accepted)
    assert home.resident.leave(0.0) is None


async def test_what_comes_while_it_leaves_is_given_back_unstarted() -> None:
    home = Home()
    await home.resident.process(command())
    assert home.resident.leave(0.0) is None
    assert await home.resident.process(command()) == TryElsewhere(maybe_stored=False)
    assert len(home.handler.commands) == 1
