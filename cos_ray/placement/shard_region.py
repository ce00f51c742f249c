"""
Sharded placement, as those see it who send commands: each entity at the home of its shard.

Where that is, is known from the last assignment heard of: a host that gets a command it is not home
to answers with a newer one, and when a host is lost or silent its coordinator is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from cos_ray.domain.errors import EntityLost, EntityNotReached, EntitySilent
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command, Reply
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.transport.batching import Batch, BatchingClient, BatchReply
from cos_ray.transport.host_reply import Moved, Owned

logger = logging.getLogger(__name__)

ASK_AGAIN = 0.02
"""Seconds before a command goes out again that came back from a host which knows no newer assignment."""


class Hosts(Protocol):
    """The way to shard hosts and to their coordinator. Raises EntityLost throughout."""

    async def exchange(self, host: HostId, assignment: Assignment, batch: Batch) -> BatchReply:
        """Bring the batch to the host, with the assignment that made it go there."""
        ...

    async def assignment(self) -> Assignment:
        """The newest assignment, by the coordinator."""
        ...


class ShardRegion:
    """An `Entities` over shard hosts."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._assignment: Assignment | None = None
        self._clients: dict[HostId, BatchingClient] = {}
        self._refreshing: asyncio.Task[Assignment] | None = None

    async def ask(self, command: Command) -> Reply:
        """Hand the command to its entity's host. Raises EntityLost and EntitySilent."""
        reply = await self.reach(command)
        if isinstance(reply, Owned):
            raise EntityNotReached("the entity has a process of its own, by another placement")
        return reply

    async def reach(self, command: Command) -> Reply | Owned:
        """Like `ask`, where entities may have processes of their own."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + command.budget
        while True:
            assignment = self._assignment
            if assignment is None:
                assignment = await self._in_time(self._refresh(), command)
            host = assignment.host_of(shard_of(command.entity_id, assignment.shards))
            try:
                reply = await self._line(host).ask(command)
            except (EntityLost, EntitySilent):
                self._refresh()
                raise
            if not isinstance(reply, Moved):
                return reply
            if reply.assignment.epoch <= assignment.epoch:
                # The host has not heard of it yet; it was told with the command.
                await asyncio.sleep(ASK_AGAIN)
            self._learn(reply.assignment)
            command = replace(command, budget=max(0.0, deadline - loop.time()))

    def home_of(self, entity_id: EntityId) -> HostId | None:
        """The host of the entity's shard, as far as is known."""
        assignment = self._assignment
        return None if assignment is None else assignment.host_of(shard_of(entity_id, assignment.shards))

    async def _in_time(self, refreshing: asyncio.Task[Assignment], command: Command) -> Assignment:
        done, _ = await asyncio.wait([refreshing], timeout=command.budget)
        if not done:
            raise EntitySilent(command.entity_id)
        return refreshing.result()

    def _line(self, host: HostId) -> BatchingClient:
        client = self._clients.get(host)
        if client is None:
            client = self._clients[host] = BatchingClient(self._call_to(host), self._look_into_silence)
        return client

    def _call_to(self, host: HostId) -> Callable[[Batch], Awaitable[BatchReply]]:
        async def call(batch: Batch) -> BatchReply:
            if self._assignment is None:
                raise EntityLost("where entities live is not known")
            return await self._hosts.exchange(host, self._assignment, batch)

        return call

    def _look_into_silence(self) -> None:
        self._refresh()

    def _refresh(self) -> asyncio.Task[Assignment]:
        """Ask the coordinator; whoever needs it to know may wait."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._ask_coordinator())
            # Not everyone waits for it.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refreshing

    async def _ask_coordinator(self) -> Assignment:
        assignment = await self._hosts.assignment()
        self._learn(assignment)
        return self._assignment or assignment

    def _learn(self, assignment: Assignment) -> None:
        if self._assignment is not None and assignment.epoch <= self._assignment.epoch:
            return
        self._assignment = assignment
        for host in [host for host in self._clients if assignment.gave_up(host)]:
            # Its seat has another holder. What it was given is looked up in the journal there.
            self._clients.pop(host).abandon(f"shard host {host} was given up")
        for host in [host for host, client in self._clients.items() if host not in assignment.hosts]:
            if not self._clients[host].waiting:
                del self._clients[host]
