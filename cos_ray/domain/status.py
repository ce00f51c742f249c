"""How the parts of a running service are, as they tell it themselves."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.domain.placement import HostId


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
