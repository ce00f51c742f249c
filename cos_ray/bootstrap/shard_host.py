"""A home of many entities, and the keeper of such homes, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from cos_ray.bootstrap.entity_keeper import keeper_recipe
from cos_ray.bootstrap.garbage import collect_seldom
from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.certificates import TlsFiles
from cos_ray.cluster.journal_actor import OwnedJournal
from cos_ray.cluster.metrics import exported_meters
from cos_ray.cluster.pokes import ReadSidePokes
from cos_ray.cluster.shard_host_actor import Home, HomeBuilder
from cos_ray.cluster.shard_hosts import ShardHostActors, TendedShardHosts
from cos_ray.cluster.wire_doors import node_address
from cos_ray.domain.ids import EntityId
from cos_ray.domain.live_limits import LiveLimits
from cos_ray.domain.messages import Command
from cos_ray.domain.placement import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.domain.status import ShardHostStatus
from cos_ray.ports import Journal
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry import catalogue
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import EntityRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.exchange import Desk
from cos_ray.writeside.host_reply import HostReply
from cos_ray.writeside.live_entities import LiveEntities
from cos_ray.writeside.promotions import Promotions
from cos_ray.writeside.publishing import PublishingJournal
from cos_ray.writeside.shard_host import ShardHost
from cos_ray.writeside.shard_keeper import ShardKeeper

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing


MOST_NAMED = 100
"""How many of the entities with processes of their own are named to operators, for each host."""


@dataclass(frozen=True, slots=True)
class KeeperWiring:
    """What the keeper of the shard hosts must know."""

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
        self.desk = Desk(_traced(host, tracing), host.withdraw)
        self._tracing = tracing
        self._live = live
        self._journal = journal
        loop = asyncio.get_running_loop()
        self._looking = [loop.create_task(live.keep_tidy())]
        if promotions is not None:
            self._looking.append(loop.create_task(promotions.run(host.is_home_of)))

    def status(self) -> ShardHostStatus:
        """How it is."""
        host, live, desk = self.host, self._live, self.desk
        return ShardHostStatus(
            host=host.host,
            node=node_address(),
            pid=os.getpid(),
            shards=len(host.assignment.shards_of(host.host)),
            entities=len(live),
            octets=live.octets,
            in_progress=desk.in_progress,
            commands=desk.commands,
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
    wiring: EntityWiring, limits: LiveLimits, host: HostId, assignment: Assignment
) -> Home:
    """A host that asks the write handler and appends to the journal itself."""
    wiring.logs.apply()
    clock = SystemClock()
    meters = exported_meters()
    meter = EntityRecorder(meters)
    tracing = tracing_of(wiring.traces, "shard host")
    handler = build_write_handler(wiring.write_handler, wiring.call_timeout, wiring.breaker, meters, tracing)
    own_journal = await wiring.journal.build()
    recipe = wiring.journal
    pokes = ReadSidePokes(wiring.namespace, recipe.read_sides, recipe.read_side_actors)
    journal: Journal = PublishingJournal(own_journal, pokes)
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedJournal

        journal = TracedJournal(journal, tracing)

    def activate(entity_id: EntityId) -> Entity:
        shard = shard_of(entity_id, wiring.shards)
        return Entity(entity_id, shard, handler, journal, clock, wiring.policy, meter)

    collect_seldom()
    live = LiveEntities(activate, limits, clock)
    _watch(live, meters)
    promotions = None
    if wiring.is_auto:
        from cos_ray.cluster.own_processes import OwnActors

        promotions = Promotions(live, OwnActors(keeper_recipe(wiring)), clock)
    neighbours = ShardHostActors(wiring.namespace, wiring.tls)
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


def build_shard_keeper(wiring: KeeperWiring) -> ShardKeeper:
    """Looks after the hosts of this service."""
    wiring.logs.apply()
    hosts = TendedShardHosts(wiring.namespace, wiring.build_host, wiring.tls)
    return ShardKeeper(hosts, wiring.shards, wiring.seats, SystemClock())
