"""An entity, in a process of its own."""

from __future__ import annotations

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.journal_actor import NodeJournal
from cos_ray.cluster.metrics import Relay
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import shard_of
from cos_ray.ports import Journal
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import EntityRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.resident import RunsCommands


def build_entity(wiring: EntityWiring, entity_id: EntityId) -> RunsCommands:
    """An entity that asks the write handler and appends through its node's journal actor."""
    wiring.logs.apply()
    tracing = tracing_of(wiring.traces, "entity")
    meters, shared_journal = Meters(), NodeJournal(wiring.namespace, wiring.journal)
    journal: Journal = shared_journal
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedJournal

        journal = TracedJournal(journal, tracing)
    entity = Entity(
        entity_id,
        shard_of(entity_id, wiring.shards),
        build_write_handler(wiring.write_handler, wiring.call_timeout, wiring.breaker, meters, tracing),
        journal,
        SystemClock(),
        wiring.policy,
        meter=RelayedRecorder(meters, Relay(meters, shared_journal.report)),
    )
    if tracing is None:
        return entity
    from cos_ray.telemetry.traced_commands import TracedEntity

    return TracedEntity(entity.process, entity.withdraw, entity.ready, tracing)


class RelayedRecorder(EntityRecorder):
    """An `EntityMeter` whose counts are handed on some time after a command."""

    def __init__(self, meters: Meters, relay: Relay) -> None:
        super().__init__(meters)
        waited = self.waited

        def wait_over(seconds: float, /) -> None:
            waited(seconds)
            relay.remind()

        self.waited = wait_over
