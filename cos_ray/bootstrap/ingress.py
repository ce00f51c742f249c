"""The ingress, in a Serve replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.entities import DedicatedEntities
from cos_ray.cluster.read_sides import ReadSideActors
from cos_ray.cluster.sealed import seal
from cos_ray.domain.ids import ReadSideId
from cos_ray.ingress.service import IngressPolicy
from cos_ray.ports import Entities, EntityGateway
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.desk import ReadSideDesk
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.router import Router
from cos_ray.writeside.sharded_entities import ShardedEntities


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: IngressPolicy
    journal: PostgresJournal
    read_sides: ReadSideDesk
    read_side_stores: PostgresReadSideStores

    async def close(self) -> None:
        """Let go of connections."""
        await self.read_side_stores.close()
        await self.journal.close()


async def build_ingress(
    wiring: EntityWiring, database: Database, policy: IngressPolicy, read_sides: Sequence[ReadSideId]
) -> IngressParts:
    """A router to the entities, a journal of the replica's own for questions, and the read sides' desk."""
    journal = await build_journal(wiring.logs, database)
    stores = PostgresReadSideStores(database)
    await stores.open()
    processes = ReadSideActors(wiring.namespace, wiring.journal.read_side_actors)
    desk = ReadSideDesk(
        read_sides, wiring.shards, stores.controls, stores.offsets, stores.letters, stores.places, processes
    )
    return IngressParts(Router(entities_of(wiring), journal, SystemClock()), policy, journal, desk, stores)


def entities_of(wiring: EntityWiring) -> Entities:
    """The way to entities, wherever they live."""
    if wiring.is_sharded:
        from cos_ray.cluster.shard_hosts import ShardHostActors

        return ShardedEntities(ShardHostActors(wiring.namespace))
    from cos_ray.bootstrap.entity import build_entity

    return DedicatedEntities(wiring.namespace, seal(build_entity, wiring))
