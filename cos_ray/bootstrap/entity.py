"""An entity, in a process of its own."""

from __future__ import annotations

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.journal_actor import NodeJournal
from cos_ray.cluster.metrics import Relay
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import shard_of
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import EntityRecorder
from cos_ray.writeside.entity import Entity


def build_entity(wiring: EntityWiring, entity_id: EntityId) -> Entity:
    """An entity that asks the write handler and appends through its node's journal actor."""
    wiring.logs.apply()
    meters, journal = Meters(), NodeJournal(wiring.namespace, wiring.journal)
    return Entity(
        entity_id,
        shard_of(entity_id, wiring.shards),
        build_write_handler(wiring.write_handler, wiring.call_timeout, wiring.breaker, meters),
        journal,
        SystemClock(),
        wiring.policy,
        meter=RelayedRecorder(meters, Relay(meters, journal.report)),
    )


class RelayedRecorder(EntityRecorder):
    """An `EntityMeter` whose counts are handed on some time after a command."""

    def __init__(self, meters: Meters, relay: Relay) -> None:
        super().__init__(meters)
        waited = self.waited

        def wait_over(seconds: float, /) -> None:
            waited(seconds)
            relay.remind()

        self.waited = wait_over
