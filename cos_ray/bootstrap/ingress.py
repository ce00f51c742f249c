"""The ingress, in a Serve replica."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cos_ray.bootstrap.doors import Doors
from cos_ray.bootstrap.entity_keeper import keeper_recipe
from cos_ray.bootstrap.garbage import collect_seldom
from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster import whiteboard
from cos_ray.cluster.entities import DedicatedEntities
from cos_ray.cluster.layer import Head
from cos_ray.cluster.metrics import exported_meters
from cos_ray.cluster.overview import Overview
from cos_ray.cluster.read_sides import ReadSideActors
from cos_ray.cluster.replicas import ServeReplicas
from cos_ray.cluster.serve_app import own_application
from cos_ray.cluster.steward_actor import Attendance, Release
from cos_ray.cluster.wire_doors import node_address
from cos_ray.config.door_settings import ListenerKind
from cos_ray.config.settings import Settings
from cos_ray.domain.ids import ReadSideId
from cos_ray.ingress.guard import AdmissionPolicy
from cos_ray.ingress.http_api import HttpPolicy
from cos_ray.ingress.listener_settings import ListenerSettings
from cos_ray.ingress.policy import IngressPolicy
from cos_ray.ingress.readiness import Check
from cos_ray.ingress.replica import ListeningIngress
from cos_ray.ingress.service import Ingress
from cos_ray.ingress.subscription_methods import Replicas
from cos_ray.ports import CommandMeter, Entities, EntityGateway, EntityPast, Eraser, History, Operations
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.protocol.any_form import AnyForms
from cos_ray.readside.desk import ReadSideDesk
from cos_ray.readside.lookout import keep_watch
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.catalogue import SUBSCRIPTIONS
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import CommandRecorder, ProgressRecorder, SubscriptionRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.writeside.auto_entities import AutoEntities
from cos_ray.writeside.router import Router
from cos_ray.writeside.sharded_entities import ShardedEntities

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: IngressPolicy
    journal: PostgresJournal
    read_sides: ReadSideDesk
    read_side_stores: PostgresReadSideStores
    subscriptions: Subscriptions | None
    replicas: Replicas | None
    admission: AdmissionPolicy
    http: HttpPolicy
    listeners: ListenerSettings | None
    any_forms: AnyForms
    checks: Mapping[str, Check]
    eraser: Eraser | None
    operations: Operations
    whereabouts: tuple[str, int]
    meter: CommandMeter
    lookout: asyncio.Task[None] | None
    """Measures how far behind the read sides are."""
    tracing: Tracing | None = None
    attendance: Attendance | None = None
    """Of a release that Serve was told to deploy."""
    namespace: str = ""
    """Of the service that was launched."""

    @property
    def history(self) -> History:
        """Entities' events."""
        return self.journal

    @property
    def past(self) -> EntityPast:
        """What was when."""
        return self.journal.past

    async def ends_with_service(self) -> bool:
        """Whether its launcher has taken the whole service off already; nobody does that for a release."""
        if self.attendance is not None:
            return False
        return await asyncio.to_thread(whiteboard.look_up, self.namespace) is None

    async def close(self) -> None:
        """Let go of connections."""
        if self.lookout is not None:
            self.lookout.cancel()
        if self.subscriptions is not None:
            self.subscriptions.close()
        await self.read_side_stores.close()
        await self.journal.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.flush)


async def build_ingress(
    wiring: EntityWiring,
    database: Database,
    policy: IngressPolicy,
    doors: Doors,
    read_sides: Sequence[ReadSideId],
) -> IngressParts:
    """A router to the entities, a journal of the replica's own for questions, and the read sides' desk."""
    journal = await build_journal(wiring.logs, database)
    stores = PostgresReadSideStores(database)
    await stores.open()
    processes = ReadSideActors(wiring.namespace, wiring.journal.read_side_actors)
    collect_seldom()
    clock = SystemClock()
    any_forms = AnyForms(doors.descriptor_sets)
    if unknown := any_forms.publish():
        logger.warning("reflection shows other protos of these names", extra={"files": unknown})
    meters = exported_meters()
    desk = ReadSideDesk(
        read_sides, wiring.shards, stores.controls, stores.offsets, stores.letters, stores.places, processes
    )
    tracing = tracing_of(wiring.traces, "ingress")
    gateway: EntityGateway = Router(entities_of(wiring), journal, clock)
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedGateway

        gateway = TracedGateway(gateway)
    return IngressParts(
        gateway=gateway,
        policy=policy,
        journal=journal,
        read_sides=desk,
        read_side_stores=stores,
        subscriptions=_subscriptions(journal, clock, doors, meters),
        replicas=ServeReplicas(own_application()) if doors.subscriptions else None,
        admission=doors.admission,
        http=doors.http,
        listeners=doors.listeners,
        any_forms=any_forms,
        checks={"database": journal.check, "entities": Head().check},
        eraser=journal.eraser if doors.erasure else None,
        operations=Overview(wiring.logs.service, wiring.namespace, wiring.placement),
        whereabouts=(node_address(), os.getpid()),
        meter=CommandRecorder(meters),
        lookout=asyncio.create_task(keep_watch(desk, clock, ProgressRecorder(meters)))
        if read_sides
        else None,
        tracing=tracing,
        namespace=wiring.namespace,
    )


def ingress_class(settings: Settings) -> type[Ingress]:
    """What the replicas are, by who is to listen on the public ports."""
    return ListeningIngress if settings.listeners.kind is ListenerKind.REPLICAS else Ingress


def _subscriptions(
    journal: PostgresJournal, clock: SystemClock, doors: Doors, meters: Meters
) -> Subscriptions | None:
    # Also shown when they are switched off, as none.
    recorder = SubscriptionRecorder(meters)
    if doors.subscriptions is None:
        meters.gauge(SUBSCRIPTIONS).set(0)
        return None
    subscriptions = Subscriptions(journal.tail, clock, doors.subscriptions, recorder)
    meters.watch(lambda: len(subscriptions), SUBSCRIPTIONS)
    return subscriptions


async def build_deployed_ingress(
    wiring: EntityWiring,
    database: Database,
    policy: IngressPolicy,
    doors: Doors,
    read_sides: Sequence[ReadSideId],
    release: Release,
) -> IngressParts:
    """The same, where nobody has started the rest of the service: sees to that first. Raises StartFailed."""
    wiring.logs.apply()
    attendance = Attendance(release)
    await attendance.begin()
    return replace(await build_ingress(wiring, database, policy, doors, read_sides), attendance=attendance)


def entities_of(wiring: EntityWiring) -> Entities:
    """The way to entities, wherever they live."""
    if wiring.is_sharded:
        from cos_ray.cluster.shard_hosts import ShardHostActors

        hosts = ShardHostActors(wiring.namespace, wiring.tls)
        if not wiring.is_auto:
            return ShardedEntities(hosts)
        from cos_ray.cluster.own_processes import AutoNeighbourhood, EntityDoors

        neighbourhood = AutoNeighbourhood(hosts, keeper_recipe(wiring))
        doors = EntityDoors(wiring.namespace, wiring.tls)
        return AutoEntities(ShardedEntities(hosts), doors.open, neighbourhood)
    entities = DedicatedEntities(keeper_recipe(wiring))
    entities.prepare()
    return entities
