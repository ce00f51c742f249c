"""An entity, in a process of its own."""

from __future__ import annotations

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.journal_actor import NodeJournal
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import shard_of
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.entity import Entity


def build_entity(wiring: EntityWiring, entity_id: EntityId) -> Entity:
    """An entity that asks the write handler and appends through its node's journal actor."""
    wiring.logs.apply()
    return Entity(
        entity_id,
        shard_of(entity_id, wiring.shards),
        build_write_handler(wiring.write_handler, wiring.call_timeout, wiring.breaker),
        NodeJournal(wiring.namespace, wiring.journal),
        SystemClock(),
        wiring.policy,
    )
