"""The processes of entities that have one each, as their coordinator reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import NodeId


class EntityProcesses(Protocol):
    """The processes of entities, one each. Raises EntityLost throughout."""

    async def start(self, entity_id: EntityId, node: NodeId) -> Any:
        """The way to the entity's process, which is started on the node if there is none."""
        ...

    async def up(self, home: Any) -> None:
        """Return when the process runs."""
        ...

    async def passivate(self, entity_id: EntityId, after: float) -> float | None:
        """End the process if it has rested for so many seconds; else how long it has. None: it is gone."""
        ...

    async def find(self, entity_id: EntityId) -> Any | None:
        """The way to the entity's process, which has started; None: it has none."""
        ...

    async def ping(self, home: Any) -> None:
        """Return when the process answers, which it does at once, whatever command it is at."""
        ...

    async def kill(self, home: Any) -> None:
        """End this very process, also if it hangs. Another may be started for the entity at once."""
        ...

    async def census(self) -> Mapping[EntityId, NodeId]:
        """Every process there is, and where."""
        ...

    async def bounds(self) -> Mapping[NodeId, int]:
        """The nodes there are, and how many processes each may have."""
        ...

    async def starts_at_once(self) -> int:
        """How many processes are worth starting at the same time."""
        ...

    async def prepare(self, node: NodeId) -> None:
        """Start what all entities on the node need beside their own processes; return when it runs."""
        ...

    async def warm(self, node: NodeId, most: int) -> None:
        """Have processes ready on the node for entities to come; fewer, if so many are of no use."""
        ...


class Living:
    """An entity that has a process, or is given one."""

    __slots__ = ("is_doubted", "is_known", "is_leaving", "node", "since", "used_at")

    def __init__(self, node: NodeId, since: float) -> None:
        self.node = node
        self.since = since
        self.used_at = since
        self.is_known = False
        """Whether it has been started, or counted."""
        self.is_leaving = False
        self.is_doubted = False
        """Whether it is being found out if its process hangs."""

    @property
    def is_spared(self) -> bool:
        """Whether it need not be asked to leave: it has been, or its process may hang."""
        return self.is_leaving or self.is_doubted


class Place:
    """An entity's place in the queue."""

    __slots__ = ("home", "kept_until")

    def __init__(self) -> None:
        self.home: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.kept_until = 0.0
