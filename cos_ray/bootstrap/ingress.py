"""The ingress, in a Serve replica."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.ingress_settings import IngressSettings
from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.process_coordinator import process_coordinator_spec
from cos_ray.cluster import service_registry
from cos_ray.cluster.dedicated_entities import DedicatedEntities
from cos_ray.cluster.endpoints import node_address
from cos_ray.cluster.head_probe import HeadProbe
from cos_ray.cluster.metrics_export import exported_meters
from cos_ray.cluster.read_side_processes import ReadSideActors
from cos_ray.cluster.release_supervisor_actor import Attendance, Release
from cos_ray.cluster.replicas import ServeReplicas
from cos_ray.cluster.serve_app import own_application
from cos_ray.cluster.service_status import ServiceOverview
from cos_ray.config.door_settings import ListenerKind
from cos_ray.config.settings import Settings
from cos_ray.domain.ids import ReadSideId
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.listener_settings import ListenerSettings
from cos_ray.ingress.readiness import Check
from cos_ray.ingress.replica import ListeningIngress
from cos_ray.ingress.service import Ingress
from cos_ray.ingress.subscription_methods import Replicas
from cos_ray.placement.auto_region import AutoRegion
from cos_ray.placement.shard_region import ShardRegion
from cos_ray.ports import CommandMeter, Entities, EntityGateway, EntityPast, Eraser, History, Operations
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.protocol.any_form import AnyForms
from cos_ray.readside.lag_monitor import keep_watch
from cos_ray.readside.management import ReadSideManagement
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.system.clock import SystemClock
from cos_ray.system.garbage_collection import collect_seldom
from cos_ray.telemetry.catalogue import SUBSCRIPTIONS
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import CommandRecorder, ProgressRecorder, SubscriptionRecorder
from cos_ray.telemetry.traces import tracing_of
from cos_ray.writeside.router import Router

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngressSpec:
    """What an ingress replica works with."""

    gateway: EntityGateway
    policy: CommandPolicy
    journal: PostgresJournal
    read_sides: ReadSideManagement
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
    lag_monitor: asyncio.Task[None] | None
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
        return await asyncio.to_thread(service_registry.look_up, self.namespace) is None

    async def close(self) -> None:
        """Let go of connections."""
        if self.lag_monitor is not None:
            self.lag_monitor.cancel()
        if self.subscriptions is not None:
            self.subscriptions.close()
        await self.read_side_stores.close()
        await self.journal.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.flush)


async def build_ingress(
    spec: EntitySpec,
    database: Database,
    policy: CommandPolicy,
    ingress_settings: IngressSettings,
    read_sides: Sequence[ReadSideId],
) -> IngressSpec:
    """A router to the entities, the replica's own journal for questions, and the read sides' management."""
    journal = await build_journal(spec.logs, database)
    stores = PostgresReadSideStores(database)
    await stores.open()
    processes = ReadSideActors(spec.namespace, spec.journal.read_side_actors)
    collect_seldom()
    clock = SystemClock()
    any_forms = AnyForms(ingress_settings.descriptor_sets)
    if unknown := any_forms.publish():
        logger.warning("reflection shows other protos of these names", extra={"files": unknown})
    meters = exported_meters()
    management = ReadSideManagement(
        read_sides, spec.shards, stores.controls, stores.offsets, stores.letters, stores.places, processes
    )
    tracing = tracing_of(spec.traces, "ingress")
    gateway: EntityGateway = Router(entities_of(spec), journal, clock)
    if tracing is not None:
        from cos_ray.telemetry.traced_commands import TracedGateway

        gateway = TracedGateway(gateway)
    return IngressSpec(
        gateway=gateway,
        policy=policy,
        journal=journal,
        read_sides=management,
        read_side_stores=stores,
        subscriptions=_subscriptions(journal, clock, ingress_settings, meters),
        replicas=ServeReplicas(own_application()) if ingress_settings.subscriptions else None,
        admission=ingress_settings.admission,
        http=ingress_settings.http,
        listeners=ingress_settings.listeners,
        any_forms=any_forms,
        checks={"database": journal.check, "entities": HeadProbe().check},
        eraser=journal.eraser if ingress_settings.erasure else None,
        operations=ServiceOverview(spec.logs.service, spec.namespace, spec.placement),
        whereabouts=(node_address(), os.getpid()),
        meter=CommandRecorder(meters),
        lag_monitor=asyncio.create_task(keep_watch(management, clock, ProgressRecorder(meters)))
        if read_sides
        else None,
        tracing=tracing,
        namespace=spec.namespace,
    )


def ingress_class(settings: Settings) -> type[Ingress]:
    """What the replicas are, by who is to listen on the public ports."""
    return ListeningIngress if settings.listeners.kind is ListenerKind.REPLICAS else Ingress


def _subscriptions(
    journal: PostgresJournal, clock: SystemClock, ingress_settings: IngressSettings, meters: Meters
) -> Subscriptions | None:
    # Also shown when they are switched off, as none.
    recorder = SubscriptionRecorder(meters)
    if ingress_settings.subscriptions is None:
        meters.gauge(SUBSCRIPTIONS).set(0)
        return None
    subscriptions = Subscriptions(journal.tail, clock, ingress_settings.subscriptions, recorder)
    meters.watch(lambda: len(subscriptions), SUBSCRIPTIONS)
    return subscriptions


async def build_deployed_ingress(
    spec: EntitySpec,
    database: Database,
    policy: CommandPolicy,
    ingress_settings: IngressSettings,
    read_sides: Sequence[ReadSideId],
    release: Release,
) -> IngressSpec:
    """The same, where nobody has started the rest of the service: sees to that first. Raises StartFailed."""
    spec.logs.apply()
    attendance = Attendance(release)
    await attendance.begin()
    return replace(
        await build_ingress(spec, database, policy, ingress_settings, read_sides), attendance=attendance
    )


def entities_of(spec: EntitySpec) -> Entities:
    """The way to entities, wherever they live."""
    if spec.is_sharded:
        from cos_ray.cluster.shard_hosts import ShardHostActors

        hosts = ShardHostActors(spec.namespace, spec.tls)
        if not spec.is_auto:
            return ShardRegion(hosts)
        from cos_ray.cluster.own_processes import AutoNeighbourhood, EntityEndpoints

        neighbourhood = AutoNeighbourhood(hosts, process_coordinator_spec(spec))
        ingress_settings = EntityEndpoints(spec.namespace, spec.tls)
        return AutoRegion(ShardRegion(hosts), ingress_settings.open, neighbourhood)
    entities = DedicatedEntities(process_coordinator_spec(spec))
    entities.prepare()
    return entities
