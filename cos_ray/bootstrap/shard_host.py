"""A home of many entities, and the coordinator of such homes, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.process_coordinator import process_coordinator_spec
from cos_ray.cluster.endpoints import node_address
from cos_ray.cluster.journal_actor import OwnedJournal
from cos_ray.cluster.metrics_export import exported_meters
from cos_ray.cluster.read_side_notifier import ReadSideNotifier
from cos_ray.cluster.shard_host_actor import Home, HomeBuilder
from cos_ray.cluster.shard_hosts import ShardHostActors, TendedShardHosts
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command
from cos_ray.domain.passivation import LiveLimits
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.domain.status import ShardHostStatus
from cos_ray.placement.live_entities import LiveEntities
from cos_ray.placement.promotions import Promotions
from cos_ray.placement.shard_coordinator import ShardCoordinator
from cos_ray.placement.shard_host import ShardHost
from cos_ray.ports import Journal
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.clock import SystemClock
from cos_ray.system.garbage_collection import collect_seldom
from cos_ray.telemetry import catalogue
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import EntityRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.transport.batching import BatchingServer
from cos_ray.transport.host_reply import HostReply
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.publishing import PublishingJournal

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing


MOST_NAMED = 100
"""How many of the entities with processes of their own are named to operators, for each host."""


@dataclass(frozen=True, slots=True)
class ShardCoordinatorSpec:
    """What the coordinator of the shard hosts must know."""

    namespace: str
    shards: int
    seats: int | None
    """How many hosts there are to be; None: as many as suit the cluster."""
    build_host: HomeBuilder
    logs: LogSettings
    tls: TlsFiles | None = None
    """How commands travel between machines; None: in plain text."""


class OwnedShardHost:
    """A shard host with what it holds open."""

    def __init__(
        self,
        host: ShardHost,
        live: LiveEntities,
        journal: OwnedJournal,
        tracing: Tracing | None,
        promotions: Promotions | None = None,
    ) -> None:
        self.host = host
        self._promotions = promotions
        self.server = BatchingServer(_traced(host, tracing), host.withdraw)
        self._tracing = tracing
        self._live = live
        self._journal = journal
        loop = asyncio.get_running_loop()
        self._looking = [loop.create_task(live.keep_tidy())]
        if promotions is not None:
            self._looking.append(loop.create_task(promotions.run(host.is_home_of)))

    def status(self) -> ShardHostStatus:
        """How it is."""
        host, live, server = self.host, self._live, self.server
        return ShardHostStatus(
            host=host.host,
            node=node_address(),
            pid=os.getpid(),
            shards=len(host.assignment.shards_of(host.host)),
            entities=len(live),
            octets=live.octets,
            in_progress=server.in_progress,
            commands=server.commands,
            activations=live.activations,
            passivations=live.passivations,
            **self._told_of_own(),
        )

    def _told_of_own(self) -> dict[str, Any]:
        """What is to be told of entities with and without processes of their own."""
        promotions = self._promotions
        if promotions is None:
            return {}
        return {
            "own_processes": len(promotions.own),
            "entities_with_process": tuple(sorted(islice(promotions.own, MOST_NAMED))),
            "shared": tuple((why, count) for why, count in promotions.reasons().items() if count),
            "promotions": promotions.promotions,
        }

    def lost(self, entity_id: EntityId, way: bytes) -> None:
        """An entity's own process gives no answers."""
        if self._promotions is not None:
            self._promotions.lost(entity_id, way)

    async def close(self) -> None:
        """Let go of connections."""
        for task in self._looking:
            task.cancel()
        await self._journal.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.flush)


async def build_shard_host(
    spec: EntitySpec, limits: LiveLimits, host: HostId, assignment: Assignment
) -> Home:
    """A host that asks the write handler and appends to the journal itself."""
    spec.logs.apply()
    clock = SystemClock()
    meters = exported_meters()
    meter = EntityRecorder(meters)
    tracing = tracing_of(spec.traces, "shard host")
    handler = build_write_handler(spec.write_handler, spec.call_timeout, spec.breaker, meters, tracing)
    own_journal = await spec.journal.build()
    journal_spec = spec.journal
    notifier = ReadSideNotifier(spec.namespace, journal_spec.read_sides, journal_spec.read_side_actors)
    journal: Journal = PublishingJournal(own_journal, notifier)
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedJournal

        journal = TracedJournal(journal, tracing)

    def activate(entity_id: EntityId) -> Entity:
        shard = shard_of(entity_id, spec.shards)
        return Entity(entity_id, shard, handler, journal, clock, spec.policy, meter)

    collect_seldom()
    live = LiveEntities(activate, limits, clock)
    _watch(live, meters)
    promotions = None
    if spec.is_auto:
        from cos_ray.cluster.own_processes import OwnActors

        promotions = Promotions(live, OwnActors(process_coordinator_spec(spec)), clock)
    neighbours = ShardHostActors(spec.namespace, spec.tls)
    shard_host = ShardHost(host, assignment, promotions or live, neighbours, clock)
    return OwnedShardHost(shard_host, live, own_journal, tracing, promotions)


def _traced(host: ShardHost, tracing: Tracing | None) -> Callable[[Command], Awaitable[HostReply]]:
    """What runs commands, with a span around each where traces are on."""
    if tracing is None:
        return host.process
    from cos_ray.telemetry.traced_commands import traced_run

    return traced_run(host.process, tracing)


def _watch(live: LiveEntities, meters: Meters) -> None:
    meters.watch(lambda: len(live), catalogue.LIVE_ENTITIES)
    meters.watch(lambda: live.octets, catalogue.LIVE_OCTETS)
    meters.watch(lambda: live.activations, catalogue.ACTIVATIONS)
    meters.watch(lambda: live.passivations, catalogue.PASSIVATIONS)


def build_shard_coordinator(spec: ShardCoordinatorSpec) -> ShardCoordinator:
    """Looks after the hosts of this service."""
    spec.logs.apply()
    hosts = TendedShardHosts(spec.namespace, spec.build_host, spec.tls)
    return ShardCoordinator(hosts, spec.shards, spec.seats, SystemClock())
