"""Commands: handlers, entities and the processes these live in; and time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from cos_ray.domain.decisions import Decision
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import (
    Command,
    EntityState,
    Headers,
    Meta,
    Packed,
    Reply,
)
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.status import ServiceStatus


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def now(self) -> datetime:
        """The date and time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...


class WriteHandler(Protocol):
    """The application's two functions. Every failure is a HandlerFailed with its status."""

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """
        Which events the command leads to; `timeout` in seconds.

        `first` is the metadata of the first of them. Given that, a handler may look ahead, and say in the
        same trip which states they lead to. It need not: what it leaves out is asked by `handle_event`.
        """
        ...

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to; `timeout` in seconds."""
        ...


class EntityGateway(Protocol):
    """The way to any entity, wherever it lives."""

    async def process(self, command: Command) -> Reply:
        """Run the command within its budget; never answers TryElsewhere."""
        ...

    async def state(self, entity_id: EntityId) -> EntityState:
        """The state after every acknowledged command. Raises JournalUnavailable."""
        ...


class Entities(Protocol):
    """Where entities live: one Ray actor each, or many in one; the router does not know."""

    async def ask(self, command: Command) -> Reply:
        """
        Hand the command to the entity, waking it if need be, and wait for the reply.

        Raises EntityLost when its process died or cannot be reached, with the command or
        without, EntitySilent when no reply came within the command's budget, and NoRoom when
        the entity could not be woken within it.
        """
        ...


class ShardHosts(Protocol):
    """The processes that are home to shards, as who tends them reaches them. Raises EntityLost throughout."""

    async def names(self) -> Sequence[HostId]:
        """All there are, whether they answer or not."""
        ...

    async def seats(self) -> int:
        """How many there should be, as the cluster is now."""
        ...

    async def start(self, host: HostId, assignment: Assignment) -> None:
        """Start a process for it; returns before it has started."""
        ...

    async def tell(self, host: HostId, assignment: Assignment | None) -> Assignment:
        """Let it go by this assignment unless it knows a newer one; the one it goes by."""
        ...

    async def retire(self, host: HostId) -> None:
        """Let it end what it has begun, and end itself."""
        ...


class Neighbours(Protocol):
    """Shard hosts among each other."""

    async def release(self, host: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Return when the host no longer runs anything in these shards. Raises EntityLost."""
        ...


class Operations(Protocol):
    """The service as an operator sees it."""

    async def status(self) -> ServiceStatus:
        """Every part that answers in time."""
        ...

    async def resize(self, hosts: int | None) -> Sequence[HostId]:
        """
        Have so many shard hosts, None: as many as suit the cluster; who they are.

        Raises NotSharded, and EntityLost when their coordinator does not answer.
        """
        ...
