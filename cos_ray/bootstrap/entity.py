"""An entity, in a process of its own."""

from __future__ import annotations

from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.cluster.journal_actor import NodeJournal
from cos_ray.cluster.metrics_export import Relay
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import shard_of
from cos_ray.placement.dedicated_entity import RunsCommands
from cos_ray.ports import Journal
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import EntityRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.writeside.entity import Entity


def build_entity(spec: EntitySpec, entity_id: EntityId) -> RunsCommands:
    """An entity that asks the write handler and appends through its node's journal actor."""
    spec.logs.apply()
    tracing = tracing_of(spec.traces, "entity")
    meters, shared_journal = Meters(), NodeJournal(spec.namespace, spec.journal)
    journal: Journal = shared_journal
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedJournal

        journal = TracedJournal(journal, tracing)
    entity = Entity(
        entity_id,
        shard_of(entity_id, spec.shards),
        build_write_handler(spec.write_handler, spec.call_timeout, spec.breaker, meters, tracing),
        journal,
        SystemClock(),
        spec.policy,
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
