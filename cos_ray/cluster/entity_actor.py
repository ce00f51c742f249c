"""One entity's own process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import ray
from ray.actor import exit_actor

from cos_ray.cluster.endpoints import Caller, Endpoint, EndpointAddress
from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Command, Reply, TryElsewhere
from cos_ray.placement.dedicated_entity import DedicatedEntity, RunsCommands
from cos_ray.ray_internals.worker_sleep import keep_quiet
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.clock import SystemClock

LEAVES_WITHIN = 1.0
"""Seconds in which those who send commands hear that this process ends."""

QUIET_AFTER = 2.0
"""Seconds in which others who ask for the way, too, need not wait for a thread that rests."""

EntityBuilder = Callable[[EntityId], RunsCommands]

CALLS_AT_ONCE = 20_000
"""More than the mailbox ever holds: it turns commands away, where Ray would queue without end."""


# max_task_retries stays 0: Ray would run the command again although its first run may already
# be in the journal. max_restarts likewise: a node that is lost would bring back, all at once, what
# no one may want any more; who wants an entity wakes it.
@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=CALLS_AT_ONCE)
class EntityActor:
    """Hosts one `Entity`; the behaviour is in `cos_ray.writeside`."""

    def __init__(self, entity_id: EntityId, build: EntityBuilder, tls: TlsFiles | None = None) -> None:
        self._resident = DedicatedEntity(build(entity_id), SystemClock())
        self._endpoint = Endpoint({"withdraw": self.withdraw}, timed={"process": self._process}, tls=tls)
        self._quiet: asyncio.Task[None] | None = None

    async def endpoint(self, caller: Caller) -> EndpointAddress:
        """Where `process` and `withdraw` are called at a fraction of the cost."""
        if self._quiet is None:
            # From now on, commands come by RPC.
            self._quiet = asyncio.get_running_loop().create_task(_keep_quiet_later())
        return await self._endpoint.address_for(caller)

    async def process(self, command: Command) -> Reply:
        """Run the command when its turn comes; a process that gives its commands back ends with it."""
        reply = await self._resident.process(command)
        if isinstance(reply, TryElsewhere):
            await self.end()
        return reply

    async def _process(self, late: float, command: Command) -> Reply:
        return await self._resident.process(replace(command, budget=command.budget - late))

    async def withdraw(self, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        self._resident.withdraw(command_id)

    async def passivate(self, after: float) -> float:
        """End, if it has rested for so many seconds; else how long it has."""
        rested = self._resident.leave(after)
        if rested is None:
            await self.end()
        return rested or 0.0

    async def dismiss(self) -> None:
        """End as soon as what is in progress has ended; what comes meanwhile is given back."""
        self._resident.dismiss()
        await self.end()

    async def end(self) -> None:
        """
        End, once running commands are done, if this copy gives its commands back: it keeps losing to another.

        The name, if it is this one's, is free then. To be called by whoever gets a command back.
        The actor must not call itself: Ray waits for such a call before it ends the process, for ever.
        """
        if self._resident.is_leaving:
            if self._quiet is not None:
                # Its last calls need not wait.
                self._quiet.cancel()
            await self._resident.at_rest()
            # Of a command that is under way when this process ends, nobody could say whether it was run.
            await self._endpoint.close(LEAVES_WITHIN)
            exit_actor()

    async def ready(self) -> None:
        """Return when the entity's first command need not wait for anything."""
        await self._resident.ready()

    async def pid(self) -> int:
        """This process's id."""
        return os.getpid()


async def _keep_quiet_later() -> None:
    await asyncio.sleep(QUIET_AFTER)
    await keep_quiet()
