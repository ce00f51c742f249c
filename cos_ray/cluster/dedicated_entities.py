"""Dedicated placement: the way to an entity that has an actor of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace

from cos_ray.cluster.endpoints import Dialer
from cos_ray.cluster.entity_connection import EntityConnection
from cos_ray.cluster.process_coordinator_actor import FoundProcessCoordinator, ProcessCoordinatorSpec
from cos_ray.domain.errors import EntityLost, EntitySilent, NoRoom
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command, Reply, TryElsewhere

logger = logging.getLogger(__name__)

GRACE = 0.25
"""Seconds that an entity's own word on a late command may take to get here."""

TELL_EVERY = 1.0
"""Seconds between two reports of used entities to the coordinator, and between two looks for silent ones."""

SILENT_FOR = 1.0
"""Seconds without a reply to any command, and then to a ping, after which an entity's process may hang."""


class DedicatedEntities:
    """Knows the actors of entities it has used lately, and asks the coordinator for the others."""

    def __init__(self, coordinator: ProcessCoordinatorSpec) -> None:
        self._dialer = Dialer(coordinator.tls)
        self._coordinator = FoundProcessCoordinator(coordinator)
        self._idle_after = coordinator.limits.idle_after
        # In order of their last command, the one longest ago first.
        self._ways: OrderedDict[EntityId, _Way] = OrderedDict()
        self._used: set[EntityId] = set()
        self._telling: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Have the coordinator started before the first command wants it."""
        self._coordinator.prepare()

    async def ask(self, command: Command) -> Reply:
        """Hand the command to the entity's actor. Raises EntityLost, EntitySilent and NoRoom."""
        way = self._way(command.entity_id)
        if not way.commands:
            way.heard_at = asyncio.get_running_loop().time()
        way.commands += 1
        try:
            return await self._ask(command, way)
        finally:
            way.commands -= 1
            way.used_at = asyncio.get_running_loop().time()

    async def _ask(self, command: Command, way: _Way) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + command.budget
        try:
            if not way.opening.done():
                # Shielded: others wait for the same way.
                await asyncio.wait_for(asyncio.shield(way.opening), command.budget)
                command = replace(command, budget=max(0.0, deadline - loop.time()))
            entity = way.opening.result()
        except asyncio.TimeoutError:
            if way.is_admitted:
                raise EntitySilent(command.entity_id) from None
            raise NoRoom(command.entity_id) from None
        except EntityLost as error:
            self._forget(command.entity_id, way)
            logger.info("entity not reached", extra={"entity_id": command.entity_id, "reason": str(error)})
            return TryElsewhere(maybe_stored=False)
        try:
            reply = await asyncio.wait_for(entity.process(command), command.budget + GRACE)
            way.heard_at = loop.time()
            return reply
        except asyncio.TimeoutError:
            raise EntitySilent(command.entity_id) from None
        except Exception:
            # Lost, or not foreseen; the next command looks anew.
            self._forget(command.entity_id, way)
            raise

    def _way(self, entity_id: EntityId) -> _Way:
        """The way to the entity, open now or soon; however many ask, the coordinator is asked once."""
        way = self._ways.get(entity_id)
        if way is None:
            way = self._ways[entity_id] = _Way()
            way.opening = asyncio.get_running_loop().create_task(self._open(entity_id, way))
            # Whoever waited for it may have left by the time it fails.
            way.opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())
        self._ways.move_to_end(entity_id)
        self._used.add(entity_id)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell_the_coordinator())
        return way

    async def _open(self, entity_id: EntityId, way: _Way) -> EntityConnection:
        while way.commands:
            actor = await self._coordinator.admit(entity_id)
            if actor is not None:
                way.is_admitted = True
                entity = await EntityConnection.to(actor, self._dialer)
                # Passivated or dead: the next command need not find out.
                entity.when_cut(lambda: self._forget(entity_id, way))
                return entity
        self._forget(entity_id, way)
        raise EntityLost("no one waits for it")

    def _forget(self, entity_id: EntityId, way: _Way) -> None:
        if self._ways.get(entity_id) is way:
            del self._ways[entity_id]

    async def _tell_the_coordinator(self) -> None:
        """Who was used, from time to time; and forget who was not, for by now they will be passivated."""
        while self._ways:
            await asyncio.sleep(TELL_EVERY)
            used, self._used = self._used, set()
            if used:
                self._coordinator.used(sorted(used))
            self._look_for_silent_ones()
            since = asyncio.get_running_loop().time() - self._idle_after
            for entity_id, way in list(self._ways.items()):
                if way.used_at > since:
                    break
                if not way.commands:
                    self._forget(entity_id, way)

    def _look_for_silent_ones(self) -> None:
        loop = asyncio.get_running_loop()
        for entity_id, way in self._ways.items():
            if way.is_silent(loop.time()) and way.watching is None:
                way.watching = loop.create_task(self._watch(entity_id, way))

    async def _watch(self, entity_id: EntityId, way: _Way) -> None:
        """
        Find out whether the entity's process answers a ping, though no command: handlers may be slow.

        As long as it does not, the coordinator is told, who looks into it and replaces it.
        """
        entity = way.opening.result()
        pinging = asyncio.ensure_future(entity.ping())
        try:
            while not pinging.done() and self._ways.get(entity_id) is way:
                await asyncio.wait({pinging}, timeout=SILENT_FOR)
                if not pinging.done():
                    self._coordinator.suspect([entity_id])
            if pinging.done():
                pinging.result()
                way.heard_at = asyncio.get_running_loop().time()
        except EntityLost:
            entity.cut()
        finally:
            pinging.cancel()
            way.watching = None


class _Way:
    """The way to one entity."""

    __slots__ = ("commands", "heard_at", "is_admitted", "opening", "used_at", "watching")

    opening: asyncio.Task[EntityConnection]

    def __init__(self) -> None:
        self.commands = 0
        """How many wait for it or for an answer."""
        self.is_admitted = False
        """Whether the entity's process runs, or is being started."""
        self.used_at = self.heard_at = asyncio.get_running_loop().time()
        self.watching: asyncio.Task[None] | None = None

    def is_silent(self, now: float) -> bool:
        """Whether there are commands to the entity, and for a while no reply."""
        is_open = self.opening.done() and not self.opening.cancelled() and self.opening.exception() is None
        return self.commands > 0 and is_open and now - self.heard_at >= SILENT_FOR
