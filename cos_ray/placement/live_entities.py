"""
The entities that live in one process: woken by their first command, passivated when idle or when
there are too many.

To passivate an entity is to forget it: all it knows is in the journal. One with a command in
progress is never forgotten, so of each entity there is one copy here at the most.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Command, Reply
from cos_ray.domain.passivation import LiveLimits
from cos_ray.ports import Clock
from cos_ray.writeside.entity import Entity

TIDY_EVERY = 1.0
"""Seconds between two looks for entities that have been idle for too long."""

MOST_LOOKED_AT = 1000
"""How many entities may be passed over, for they have a command in progress, in search of an idle one."""

Activate = Callable[[EntityId], Entity]


class LiveEntities:
    """Keeps entities within bounds, least recently used ones first to go."""

    def __init__(self, activate: Activate, limits: LiveLimits, clock: Clock) -> None:
        self._activate = activate
        self._limits = limits
        self._clock = clock
        # In order of their last command, the one longest ago first.
        self._residents: OrderedDict[EntityId, _Resident] = OrderedDict()
        self._octets = 0
        self.activations = 0
        """How many entities were woken so far."""
        self.passivations = 0
        """How many were passivated so far."""

    def __len__(self) -> int:
        return len(self._residents)

    @property
    def octets(self) -> int:
        """About how many bytes they take."""
        return self._octets

    async def process(self, command: Command) -> Reply:
        """Let the entity run the command, waking it if need be."""
        resident = self._engaged(command.entity_id)
        try:
            return await resident.entity.process(command)
        finally:
            resident.commands -= 1
            resident.used_at = self._clock.monotonic()
            self._weigh(resident)
            if resident.commands == 0 and resident.at_rest is not None:
                resident.at_rest.set()

    def withdraw(self, entity_id: EntityId, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        resident = self._residents.get(entity_id)
        if resident is not None:
            resident.entity.withdraw(command_id)

    async def release(self, is_leaving: Callable[[EntityId], bool]) -> None:
        """Let these entities end what they have begun, and forget them. No new commands must come in."""
        for entity_id, resident in [each for each in self._residents.items() if is_leaving(each[0])]:
            await self._let_go(entity_id, resident)

    async def release_one(self, entity_id: EntityId) -> None:
        """The same for one entity, without a look at the others."""
        if (resident := self._residents.get(entity_id)) is not None:
            await self._let_go(entity_id, resident)

    async def _let_go(self, entity_id: EntityId, resident: _Resident) -> None:
        while resident.commands:
            resident.at_rest = resident.at_rest or asyncio.Event()
            resident.at_rest.clear()
            await resident.at_rest.wait()
        if self._residents.get(entity_id) is resident:
            self._passivate(entity_id)

    async def keep_tidy(self) -> None:
        """Passivate what is idle for too long, until cancelled."""
        while True:
            await self._clock.sleep(TIDY_EVERY)
            self.passivate_idle()

    def passivate_idle(self) -> None:
        """Passivate what has been idle for too long."""
        since = self._clock.monotonic() - self._limits.idle_after
        idle = []
        for entity_id, resident in self._residents.items():
            if resident.used_at > since:
                break  # so have all that follow, or they have a command in progress
            if resident.commands == 0:
                idle.append(entity_id)
        for entity_id in idle:
            self._passivate(entity_id)

    def _engaged(self, entity_id: EntityId) -> _Resident:
        """The entity, with one more command in progress."""
        resident = self._residents.get(entity_id)
        if resident is not None:
            resident.commands += 1
            self._residents.move_to_end(entity_id)
            return resident
        resident = _Resident(self._activate(entity_id), self._clock.monotonic())
        resident.commands = 1
        self._residents[entity_id] = resident
        self.activations += 1
        self._weigh(resident)
        self._make_room()
        return resident

    def _make_room(self) -> None:
        """Keep to the bounds, as far as there is anyone who can be passivated."""
        excess = len(self._residents) - self._limits.entities
        excess_octets = self._octets - self._limits.octets
        leaving = []
        for entity_id, resident in islice(self._residents.items(), MOST_LOOKED_AT):
            if excess <= 0 and excess_octets <= 0:
                break
            if resident.commands == 0:
                leaving.append(entity_id)
                excess -= 1
                excess_octets -= resident.octets
        for entity_id in leaving:
            self._passivate(entity_id)

    def _passivate(self, entity_id: EntityId) -> None:
        self._octets -= self._residents.pop(entity_id).octets
        self.passivations += 1

    def _weigh(self, resident: _Resident) -> None:
        octets = resident.entity.octets
        self._octets += octets - resident.octets
        resident.octets = octets


class _Resident:
    """An entity in memory."""

    __slots__ = ("at_rest", "commands", "entity", "octets", "used_at")

    def __init__(self, entity: Entity, used_at: float) -> None:
        self.entity = entity
        self.used_at = used_at
        self.commands = 0
        self.octets = 0
        self.at_rest: asyncio.Event | None = None
