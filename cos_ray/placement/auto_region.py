"""
`auto` placement, as those see it who send commands: an entity at its own process if it is known to have
one, else at the home of its shard, which tells of such a process.

A process that is lost, gives commands back, or answers neither these nor a ping is given up: its entity's
shard host is told, and is home to it again. What the process was given is looked up in the journal there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from cos_ray.domain.errors import EntityLost, EntitySilent
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command, Reply, TryElsewhere
from cos_ray.domain.shard_assignment import HostId
from cos_ray.placement.shard_region import ShardRegion
from cos_ray.transport.host_reply import Owned
from cos_ray.transport.silence import falls_silent

logger = logging.getLogger(__name__)

GRACE = 0.25
"""Seconds that an entity's own word on a late command may take to get here."""

LOOK_EVERY = 0.5
"""Seconds between two looks for processes that are silent."""

SILENT_FOR = 0.75
"""Seconds without a reply to any command after which a process is asked whether it is there."""

LOOKS = 2
"""How many looks for that answer, a second apart, are in vain with a process that is given up."""

TOLD_WITHIN = 1.0
"""Seconds that a shard host may take to hear that a process is lost, before commands go on to it."""

TELL_USED_EVERY = 2
"""After how many looks the coordinator of processes is told who was used."""


class OwnWay(Protocol):
    """The way to one entity's process. Every failure is an EntityLost."""

    async def process(self, command: Command) -> Reply:
        """Run the command there."""
        ...

    async def ping(self) -> None:
        """Return when the process answers, whatever command it is at."""
        ...

    def cut(self) -> None:
        """Give up what is under way."""
        ...

    def when_cut(self, tell: Callable[[], None]) -> None:
        """Call this when the process is known to be gone, or to be going; at once if it is."""
        ...


Open: TypeAlias = Callable[[EntityId, bytes], Awaitable[OwnWay]]
"""Opens a way to an entity's process that a shard host has told of. Raises EntityLost."""


class Neighbourhood(Protocol):
    """Whom it is to be told what becomes of processes."""

    async def lost(self, host: HostId, entity_id: EntityId, way: bytes) -> None:
        """Tell the entity's shard host that its process gives no answers. Raises EntityLost."""
        ...

    def used(self, entity_ids: Sequence[EntityId]) -> None:
        """Tell the coordinator of processes that these have had commands; not waited for."""
        ...


class AutoRegion:
    """An `Entities` over shard hosts and processes of single entities."""

    def __init__(self, shared: ShardRegion, open_way: Open, neighbourhood: Neighbourhood) -> None:
        self._shared = shared
        self._open = open_way
        self._neighbourhood = neighbourhood
        self._ways: dict[EntityId, _Way] = {}
        self._used: set[EntityId] = set()
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, command: Command) -> Reply:
        """Hand the command to the entity, wherever it lives. Raises EntityLost and EntitySilent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + command.budget
        while True:
            way = self._ways.get(command.entity_id)
            if way is None:
                reply = await self._shared.reach(command)
                if not isinstance(reply, Owned):
                    return reply
                way = self._learn(command.entity_id, reply.way)
            try:
                own = await self._opened(way, command, deadline)
            except EntityLost as error:
                logger.info("an entity's process is not reached", extra={"reason": str(error)})
                await self._give_up(command.entity_id, way)
                # Nothing of the command has left.
                own = None
            command = replace(command, budget=max(0.0, deadline - loop.time()))
            if own is not None:
                return await self._ask_own(command, way, own)

    async def _opened(self, way: _Way, command: Command, deadline: float) -> OwnWay:
        if way.opening.done():
            return way.opening.result()
        within = deadline - asyncio.get_running_loop().time()
        await asyncio.wait([way.opening], timeout=max(0.0, within))
        if not way.opening.done():
            raise EntitySilent(command.entity_id)
        return way.opening.result()

    async def _ask_own(self, command: Command, way: _Way, own: OwnWay) -> Reply:
        loop, entity_id = asyncio.get_running_loop(), command.entity_id
        if not way.commands:
            way.heard_at = loop.time()
        way.commands += 1
        self._note_use(entity_id)
        try:
            reply = await asyncio.wait_for(own.process(command), command.budget + GRACE)
            way.heard_at = loop.time()
        except asyncio.TimeoutError:
            raise EntitySilent(entity_id) from None
        except EntityLost:
            await self._give_up(entity_id, way)
            raise
        finally:
            way.commands -= 1
        if isinstance(reply, TryElsewhere):
            # What gives commands back is to end, or is ending.
            await self._give_up(entity_id, way)
        return reply

    def _learn(self, entity_id: EntityId, told: bytes) -> _Way:
        """The way that the entity's host has told of, open now or soon."""
        way = self._ways.get(entity_id)
        if way is not None:
            return way
        loop = asyncio.get_running_loop()
        way = self._ways[entity_id] = _Way(told, loop.create_task(self._opening(entity_id, told)))
        way.opening.add_done_callback(lambda opening: self._has_opened(entity_id, way, opening))
        return way

    async def _opening(self, entity_id: EntityId, told: bytes) -> OwnWay:
        return await self._open(entity_id, told)

    def _has_opened(self, entity_id: EntityId, way: _Way, opening: asyncio.Task[OwnWay]) -> None:
        # Whoever waited for it may have left by the time it fails.
        if not opening.cancelled() and opening.exception() is None:
            # Passivated or dead: the next command need not find out.
            opening.result().when_cut(lambda: self._forget(entity_id, way))

    def _forget(self, entity_id: EntityId, way: _Way) -> None:
        if self._ways.get(entity_id) is way:
            del self._ways[entity_id]

    async def _give_up(self, entity_id: EntityId, way: _Way) -> None:
        """Let the entity's host know; however many find the process lost, it is told once."""
        self._forget(entity_id, way)
        if way.telling is None:
            way.telling = asyncio.get_running_loop().create_task(self._tell_lost(entity_id, way))
        await asyncio.shield(way.telling)

    async def _tell_lost(self, entity_id: EntityId, way: _Way) -> None:
        host = self._shared.home_of(entity_id)
        if host is not None:
            # A host that does not hear of it is silent itself, or hears of the next one who finds it so.
            with contextlib.suppress(EntityLost, asyncio.TimeoutError):
                await asyncio.wait_for(self._neighbourhood.lost(host, entity_id, way.told), TOLD_WITHIN)

    def _note_use(self, entity_id: EntityId) -> None:
        self._used.add(entity_id)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        looks = 0
        while self._ways:
            await asyncio.sleep(LOOK_EVERY)
            looks += 1
            if self._used and looks % TELL_USED_EVERY == 0:
                used, self._used = self._used, set()
                self._neighbourhood.used(sorted(used))
            now = asyncio.get_running_loop().time()
            for entity_id, way in self._ways.items():
                if way.is_silent(now) and way.watching is None:
                    watching = self._watch(entity_id, way)
                    way.watching = asyncio.get_running_loop().create_task(watching)

    async def _watch(self, entity_id: EntityId, way: _Way) -> None:
        """Find out whether the process answers a ping, though no command: handlers may be slow."""
        own = way.opening.result()
        try:
            if await falls_silent(own.ping(), asyncio.sleep, LOOKS):
                logger.warning("an entity's process does not answer", extra={"entity_id": entity_id})
                await self._give_up(entity_id, way)
                own.cut()
            else:
                way.heard_at = asyncio.get_running_loop().time()
        except EntityLost:
            own.cut()
        finally:
            way.watching = None


class _Way:
    """The way to one entity's process."""

    __slots__ = ("commands", "heard_at", "opening", "telling", "told", "watching")

    def __init__(self, told: bytes, opening: asyncio.Task[OwnWay]) -> None:
        self.told = told
        self.opening = opening
        self.commands = 0
        """How many wait for an answer."""
        self.heard_at = asyncio.get_running_loop().time()
        self.watching: asyncio.Task[None] | None = None
        self.telling: asyncio.Task[None] | None = None

    def is_silent(self, now: float) -> bool:
        """Whether there are commands to the entity, and for a while no reply."""
        return self.commands > 0 and now - self.heard_at >= SILENT_FOR
