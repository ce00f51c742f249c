"""The ingress, in a Serve replica."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.entities import DedicatedEntities
from cos_ray.cluster.sealed import seal
from cos_ray.ingress.service import IngressPolicy
from cos_ray.ports import Entities, EntityGateway
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.router import Router
from cos_ray.writeside.sharded_entities import ShardedEntities


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: IngressPolicy
    journal: PostgresJournal

    async def close(self) -> None:
        """Let go of connections."""
        await self.journal.close()


async def build_ingress(wiring: EntityWiring, database: Database, policy: IngressPolicy) -> IngressParts:
    """A router to the entities, and a journal of the replica's own for questions."""
    journal = await build_journal(wiring.logs, database)
    return IngressParts(Router(entities_of(wiring), journal, SystemClock()), policy, journal)


def entities_of(wiring: EntityWiring) -> Entities:
    """The way to entities, wherever they live."""
    if wiring.is_sharded:
        from cos_ray.cluster.shard_hosts import ShardHostActors

        return ShardedEntities(ShardHostActors(wiring.namespace))
    from cos_ray.bootstrap.entity import build_entity

    entities = DedicatedEntities(wiring.namespace, seal(build_entity, wiring), wiring.limits, wiring.logs)
    entities.prepare()
    return entities
