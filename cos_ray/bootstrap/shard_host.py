"""A home of many entities, and the keeper of such homes, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from cos_ray.bootstrap.garbage import collect_seldom
from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.journal_actor import OwnedJournal
from cos_ray.cluster.pokes import ReadSidePokes
from cos_ray.cluster.shard_host_actor import Home, HomeBuilder, node_address
from cos_ray.cluster.shard_hosts import ShardHostActors, TendedShardHosts
from cos_ray.domain.ids import EntityId
from cos_ray.domain.live_limits import LiveLimits
from cos_ray.domain.placement import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.domain.status import ShardHostStatus
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.logs import LogSettings
from cos_ray.writeside.entity import Entity, perhaps_not
from cos_ray.writeside.exchange import Desk
from cos_ray.writeside.live_entities import LiveEntities
from cos_ray.writeside.publishing import PublishingJournal
from cos_ray.writeside.shard_host import ShardHost
from cos_ray.writeside.shard_keeper import ShardKeeper


@dataclass(frozen=True, slots=True)
class KeeperWiring:
    """What the keeper of the shard hosts must know."""

    namespace: str
    shards: int
    seats: int | None
    """How many hosts there are to be; None: as many as suit the cluster."""
    build_host: HomeBuilder
    logs: LogSettings


class OwnedShardHost:
    """A shard host with what it holds open."""

    def __init__(self, host: ShardHost, live: LiveEntities, journal: OwnedJournal) -> None:
        self.host = host
        self.desk = Desk(host.process, live.withdraw)
        self._live = live
        self._journal = journal
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(live.keep_tidy()), loop.create_task(host.keep_lease())]

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
        )

    async def close(self) -> None:
        """Let go of connections."""
        for task in self._tasks:
            task.cancel()
        await self._journal.close()


async def build_shard_host(
    wiring: EntityWiring, limits: LiveLimits, host: HostId, assignment: Assignment
) -> Home:
    """A host that asks the write handler and appends to the journal itself."""
    wiring.logs.apply()
    clock = SystemClock()
    handler = build_write_handler(wiring.write_handler, wiring.call_timeout, wiring.breaker)
    own_journal = await wiring.journal.build()
    recipe = wiring.journal
    pokes = ReadSidePokes(wiring.namespace, recipe.read_sides, recipe.read_side_actors)
    journal = PublishingJournal(own_journal, pokes)

    def activate(entity_id: EntityId) -> Entity:
        shard = shard_of(entity_id, wiring.shards)
        # What the hosts agree on among themselves, those of another release know nothing of.
        is_sole = shard_host.is_sole if wiring.is_alone else perhaps_not
        return Entity(entity_id, shard, handler, journal, clock, wiring.policy, is_sole)

    collect_seldom()
    live = LiveEntities(activate, limits, clock)
    shard_host = ShardHost(host, assignment, live, ShardHostActors(wiring.namespace), clock)
    return OwnedShardHost(shard_host, live, own_journal)


def build_shard_keeper(wiring: KeeperWiring) -> ShardKeeper:
    """Looks after the hosts of this service."""
    wiring.logs.apply()
    hosts = TendedShardHosts(wiring.namespace, wiring.build_host)
    return ShardKeeper(hosts, wiring.shards, wiring.seats, SystemClock())
