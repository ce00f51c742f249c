"""How the parts of a running service are, as they tell it themselves."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import Why
from cos_ray.domain.shard_assignment import HostId


@dataclass(frozen=True, slots=True)
class ShardHostStatus:
    """One shard host."""

    host: HostId
    node: str
    """The node's address."""
    pid: int
    shards: int
    """How many shards it is home to."""
    entities: int
    """How many entities are awake."""
    octets: int
    """About how many bytes they take."""
    in_progress: int
    """Commands it has taken and not answered: running or waiting for their turn."""
    commands: int
    """Commands answered since its process started."""
    activations: int
    passivations: int
    own_processes: int = 0
    """With `auto` placement: how many of its entities have processes of their own."""
    entities_with_process: tuple[EntityId, ...] = ()
    """Whose they are; not all, if they are many."""
    shared: tuple[tuple[Why, int], ...] = ()
    """How many of the others have none for which reason."""
    promotions: int = 0
    """How many entities moved to processes of their own so far."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One machine of the cluster."""

    address: str
    cpus: float
    entities: int
    """Entities with a process of their own there."""


@dataclass(frozen=True, slots=True)
class IngressStatus:
    """One process that takes requests."""

    node: str
    pid: int
    in_hand: int
    """Commands taken in and not answered."""
    commands: int
    """Commands answered since its process started."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service as a whole."""

    service: str
    placement: str
    nodes: tuple[NodeStatus, ...]
    ingress: tuple[IngressStatus, ...]
    shard_hosts: tuple[ShardHostStatus, ...]
    silent: tuple[str, ...]
    """Parts that did not answer in time."""

    @property
    def entities(self) -> int:
        """How many entities are awake, as far as is known."""
        return sum(node.entities for node in self.nodes) + sum(host.entities for host in self.shard_hosts)
