"""
One home of many entities: those of the shards that are assigned to it.

When assignments change, the new home asks the old one to let go before it begins, so that both
seldom meet at the journal; whoever sends a command to the old one is told where to go. That is a
courtesy, for speed. Should an old home not hear of it, or come back from a long sleep, or take longer
than anyone waits, the journal decides as always.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from cos_ray.domain.errors import OUT_OF_TIME, OUTCOME_UNKNOWN, EntityLost, Withdrawn
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import Command, Refused
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.ports import Clock, Neighbours
from cos_ray.transport.host_reply import HostReply, Moved
from cos_ray.writeside.refusals import status_of

logger = logging.getLogger(__name__)

RELEASED_WITHIN = 5.0
"""Seconds that a former home may take to let go of a shard."""


class HoldsEntities(Protocol):
    """What a shard host keeps its entities in: `LiveEntities`, or what is wrapped around it."""

    async def process(self, command: Command) -> HostReply:
        """Run the command, or say which process of its own the entity has."""
        ...

    def withdraw(self, entity_id: EntityId, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        ...

    async def release(self, is_leaving: Callable[[EntityId], bool]) -> None:
        """Let these entities end what they have begun, and forget them."""
        ...


class ShardHost:
    """Runs commands of its own shards, and hands shards over."""

    def __init__(
        self, host: HostId, assignment: Assignment, live: HoldsEntities, neighbours: Neighbours, clock: Clock
    ) -> None:
        self.host = host
        self._assignment = assignment
        self._mine = assignment.shards_of(host)
        self._live = live
        self._neighbours = neighbours
        self._clock = clock
        # Shards that a former home has not let go of yet.
        self._arriving: dict[Shard, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        # Commands that wait for their shard to arrive.
        self._held: set[CommandId] = set()

    @property
    def has_seat(self) -> bool:
        """Whether it is one of the hosts, as far as it has heard."""
        return self.host in self._assignment.hosts

    @property
    def assignment(self) -> Assignment:
        """What it goes by."""
        return self._assignment

    def is_home_of(self, entity_id: EntityId) -> bool:
        """Whether the entity's shard is assigned to this host, as far as it has heard."""
        return shard_of(entity_id, self._assignment.shards) in self._mine

    async def process(self, command: Command) -> HostReply:
        """Run the command, or say where its entity lives."""
        shard = shard_of(command.entity_id, self._assignment.shards)
        arriving = self._arriving.get(shard)
        if arriving is not None:
            held_at = self._clock.monotonic()
            self._held.add(command.command_id)
            try:
                _, still = await asyncio.wait([arriving], timeout=command.budget)
            finally:
                is_gone = command.command_id not in self._held
                self._held.discard(command.command_id)
            if is_gone:
                gone = Withdrawn(command.command_id)
                return Refused(status_of(gone, command.key, in_doubt=command.maybe_stored))
            if still:
                return Refused(OUTCOME_UNKNOWN if command.maybe_stored else OUT_OF_TIME)
            command = replace(command, budget=command.budget - (self._clock.monotonic() - held_at))
        if shard not in self._mine:
            return Moved(self._assignment)
        return await self._live.process(command)

    def withdraw(self, entity_id: EntityId, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        self._held.discard(command_id)
        self._live.withdraw(entity_id, command_id)

    def adopt(self, assignment: Assignment) -> None:
        """Go by this assignment from now on, unless it is older than the one known."""
        former = self._assignment
        if assignment.epoch <= former.epoch:
            return
        before, self._assignment = self._mine, assignment
        self._mine = assignment.shards_of(self.host)
        if lost := before - self._mine:
            self._keep(asyncio.get_running_loop().create_task(self._let_go(lost)))
        gained: dict[HostId, set[Shard]] = {}
        for shard in self._mine - before:
            if (home := former.host_of(shard)) != self.host and not assignment.gave_up(home):
                gained.setdefault(home, set()).add(shard)
        for home, shards in gained.items():
            arrival = asyncio.get_running_loop().create_task(self._receive(home, assignment, shards))
            self._arriving.update(dict.fromkeys(shards, arrival))

    async def release(self, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Return when nothing runs in these shards any more; the assignment says whose they are now."""
        self.adopt(assignment)
        await self._let_go(frozenset(shards) - self._mine)

    async def retire(self, assignment: Assignment) -> None:
        """Return when nothing runs any more. The assignment has no place for this host."""
        self.adopt(assignment)
        await self._live.release(lambda _: True)

    async def _let_go(self, shards: frozenset[Shard]) -> None:
        def is_leaving(entity_id: EntityId) -> bool:
            return shard_of(entity_id, self._assignment.shards) in shards

        await self._live.release(is_leaving)

    async def _receive(self, home: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Wait until the former home has let go, as long as it is any use."""
        try:
            await asyncio.wait_for(self._neighbours.release(home, assignment, shards), RELEASED_WITHIN)
        except (EntityLost, asyncio.TimeoutError) as error:
            logger.info("shards were taken without a word from their former home", extra={"home": home})
            logger.debug("why", exc_info=error)
        finally:
            for shard in shards:
                self._arriving.pop(shard, None)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
