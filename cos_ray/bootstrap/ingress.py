"""The ingress, in a Serve replica."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from cos_ray.bootstrap.doors import Doors
from cos_ray.bootstrap.garbage import collect_seldom
from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.entities import DedicatedEntities
from cos_ray.cluster.layer import check_cluster
from cos_ray.cluster.replicas import ServeReplicas
from cos_ray.cluster.sealed import seal
from cos_ray.ingress.guard import AdmissionPolicy
from cos_ray.ingress.http_api import HttpPolicy
from cos_ray.ingress.policy import IngressPolicy
from cos_ray.ingress.readiness import Check
from cos_ray.ports import Entities, EntityGateway, EntityPast, Eraser, History, Replicas
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.protocol.any_form import AnyForms
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.router import Router
from cos_ray.writeside.sharded_entities import ShardedEntities

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: IngressPolicy
    journal: PostgresJournal
    subscriptions: Subscriptions | None
    replicas: Replicas | None
    admission: AdmissionPolicy
    http: HttpPolicy
    any_forms: AnyForms
    checks: Mapping[str, Check]
    eraser: Eraser | None

    @property
    def history(self) -> History:
        """Entities' events."""
        return self.journal

    @property
    def past(self) -> EntityPast:
        """What was when."""
        return self.journal.past

    async def close(self) -> None:
        """Let go of connections."""
        if self.subscriptions is not None:
            self.subscriptions.close()
        await self.journal.close()


async def build_ingress(
    wiring: EntityWiring,
    database: Database,
    policy: IngressPolicy,
    doors: Doors,
) -> IngressParts:
    """A router to the entities, and a journal of the replica's own for questions."""
    journal = await build_journal(wiring.logs, database)
    collect_seldom()
    clock = SystemClock()
    any_forms = AnyForms(doors.descriptor_sets)
    if unknown := any_forms.publish():
        logger.warning("reflection shows other protos of these names", extra={"files": unknown})
    return IngressParts(
        Router(entities_of(wiring), journal, clock),
        policy,
        journal,
        Subscriptions(journal.tail, clock, doors.subscriptions) if doors.subscriptions else None,
        ServeReplicas(wiring.namespace) if doors.subscriptions else None,
        doors.admission,
        doors.http,
        any_forms,
        {"database": journal.check, "entities": check_cluster},
        journal.eraser if doors.erasure else None,
    )


def entities_of(wiring: EntityWiring) -> Entities:
    """The way to entities, wherever they live."""
    if wiring.is_sharded:
        from cos_ray.cluster.shard_hosts import ShardHostActors

        return ShardedEntities(ShardHostActors(wiring.namespace))
    from cos_ray.bootstrap.entity import build_entity

    return DedicatedEntities(wiring.namespace, seal(build_entity, wiring))
