"""One entity's own process."""

from __future__ import annotations

import os
from collections.abc import Callable

import ray
from ray.actor import exit_actor

from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Command, Reply, TryElsewhere
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.resident import Resident

EntityBuilder = Callable[[EntityId], Entity]

CALLS_AT_ONCE = 20_000
"""More than the mailbox ever holds: it turns commands away, where Ray would queue without end."""


# max_task_retries stays 0: Ray would run the command again although its first run may already
# be in the journal. max_restarts likewise: a node that is lost would bring back, all at once, what
# no one may want any more; who wants an entity wakes it.
@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=CALLS_AT_ONCE)
class EntityActor:
    """Hosts one `Entity`; the behaviour is in `cos_ray.writeside`."""

    def __init__(self, entity_id: EntityId, build: EntityBuilder) -> None:
        self._resident = Resident(build(entity_id), SystemClock())

    async def process(self, command: Command) -> Reply:
        """Run the command when its turn comes."""
        was_leaving = self._resident.is_leaving
        reply = await self._resident.process(command)
        if isinstance(reply, TryElsewhere) and not was_leaving:
            # A copy that keeps losing to another leaves, once its running commands are done; the name,
            # if it is this one's, is free then. The caller sees the end and asks again. Never by a
            # call to itself: Ray waits for such a call before it ends the process, for ever.
            exit_actor()
        return reply

    async def withdraw(self, command_id: CommandId) -> None:
        """Drop the command if it has not begun."""
        self._resident.withdraw(command_id)

    async def passivate(self, after: float) -> float:
        """End, if it has rested for so many seconds; else how long it has."""
        rested = self._resident.leave(after)
        if rested is not None:
            return rested
        exit_actor()
        raise AssertionError("it raises")

    async def pid(self) -> int:
        """This process's id."""
        return os.getpid()
