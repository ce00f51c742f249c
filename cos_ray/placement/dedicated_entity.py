"""
An entity that has a process to itself: when it was last used, and how it leaves.

Passivation drains: an entity leaves only when no command is in progress or waits, and takes none in
once it is leaving. A command that comes too late is given back unstarted.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from cos_ray.domain.ids import CommandId
from cos_ray.domain.messages import Command, Reply, TryElsewhere
from cos_ray.ports import Clock

FIRST_COMMAND_WITHIN = 5.0
"""Seconds in which an entity is not asked to leave before the command it was woken for has come."""


class RunsCommands(Protocol):
    """An `Entity`, or what is wrapped around one."""

    async def process(self, command: Command) -> Reply:
        """See `Entity`."""
        ...

    def withdraw(self, command_id: CommandId) -> None:
        """See `Entity`."""
        ...

    async def ready(self) -> None:
        """See `Entity`."""
        ...


class DedicatedEntity:
    """One entity and its rest."""

    def __init__(self, entity: RunsCommands, clock: Clock) -> None:
        self._entity = entity
        self._clock = clock
        self._in_progress = 0
        self._used_at = clock.monotonic() + FIRST_COMMAND_WITHIN
        self._is_leaving = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    async def process(self, command: Command) -> Reply:
        """Let the entity run the command; TryElsewhere if it is leaving."""
        if self._is_leaving:
            return TryElsewhere(maybe_stored=False)
        self._in_progress += 1
        self._at_rest.clear()
        try:
            reply = await self._entity.process(command)
        finally:
            self._in_progress -= 1
            self._used_at = self._clock.monotonic()
            if not self._in_progress:
                self._at_rest.set()
        # A copy that keeps losing to another leaves: so it takes nothing in any more.
        self._is_leaving |= isinstance(reply, TryElsewhere)
        return reply

    async def ready(self) -> None:
        """Return when the entity's first command need not wait for anything."""
        await self._entity.ready()

    def withdraw(self, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        self._entity.withdraw(command_id)

    def leave(self, after: float) -> float | None:
        """
        Take no more commands, if it has been idle for `after` seconds.

        None: it is being passivated, and the caller must end its process. Else the seconds it has been idle;
        negative while the command that it was started for is still awaited.
        """
        rested = 0.0 if self._in_progress else self._clock.monotonic() - self._used_at
        if self._in_progress or rested < after:
            return rested
        self._is_leaving = True
        return None

    def dismiss(self) -> None:
        """Take no more commands in, whatever is in progress."""
        self._is_leaving = True

    async def at_rest(self) -> None:
        """Return when no command is in progress."""
        await self._at_rest.wait()

    @property
    def is_leaving(self) -> bool:
        """Whether its process is to end."""
        return self._is_leaving
