"""The ingress, in a Serve replica."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.entities import DedicatedEntities
from cos_ray.cluster.replicas import ServeReplicas
from cos_ray.cluster.sealed import seal
from cos_ray.config.settings import Settings
from cos_ray.ingress.service import IngressPolicy
from cos_ray.ports import EntityGateway, Replicas
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.subscriptions.listener import Bounds
from cos_ray.subscriptions.subscriptions import SubscriptionPolicy, Subscriptions
from cos_ray.system_clock import SystemClock
from cos_ray.writeside.router import Router


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: IngressPolicy
    journal: PostgresJournal
    subscriptions: Subscriptions | None
    replicas: Replicas | None

    async def close(self) -> None:
        """Let go of connections."""
        if self.subscriptions is not None:
            self.subscriptions.close()
        await self.journal.close()


async def build_ingress(
    wiring: EntityWiring,
    database: Database,
    policy: IngressPolicy,
    subscriptions: SubscriptionPolicy | None = None,
) -> IngressParts:
    """A router to the entities, and a journal of the replica's own for questions."""
    from cos_ray.bootstrap.entity import build_entity

    journal = await build_journal(wiring.logs, database)
    entities = DedicatedEntities(wiring.namespace, seal(build_entity, wiring))
    clock = SystemClock()
    return IngressParts(
        Router(entities, journal, clock),
        policy,
        journal,
        Subscriptions(journal.tail, clock, subscriptions) if subscriptions else None,
        ServeReplicas(wiring.namespace) if subscriptions else None,
    )


def subscription_policy(settings: Settings) -> SubscriptionPolicy | None:
    """What clients may have of streams; None: nothing."""
    wanted = settings.subscriptions
    if not wanted.enabled:
        return None
    return SubscriptionPolicy(
        streams=wanted.streams,
        streams_per_client=wanted.streams_per_client,
        bounds=Bounds(events=wanted.waiting_events),
    )
