"""
What every process of a service is started with: the settings, once they are known to be good.

The same for a service that a launcher runs and for one that Ray Serve is told to deploy. Imports
Ray, so not before Ray's environment is set.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cos_ray.bootstrap.connection import WayIn
from cos_ray.bootstrap.database import retention_of
from cos_ray.bootstrap.endpoints import breaker_policy, internal_tls, read_target, write_target
from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.ingress_settings import IngressSettings, ingress_settings_of
from cos_ray.bootstrap.journal import build_node_journal
from cos_ray.bootstrap.process_coordinator import process_coordinator_spec
from cos_ray.bootstrap.read_side import ReadSideSpec, build_supervisor
from cos_ray.bootstrap.shard_host import ShardCoordinatorSpec, build_shard_coordinator, build_shard_host
from cos_ray.cluster.journal_actor import JournalSpec
from cos_ray.cluster.process_coordinator_actor import ProcessCoordinatorProcess
from cos_ray.cluster.read_side_actor import start_read_side
from cos_ray.cluster.serve_app import IngressOptions
from cos_ray.cluster.shard_coordinator_actor import start_shard_coordinator
from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.config.settings import Placement, Settings
from cos_ray.domain.ids import ReadSideId, ReleaseId
from cos_ray.domain.passivation import LiveLimits, ProcessLimits
from cos_ray.domain.type_changes import OnChange, TypeChange, TypePolicy, followed_through
from cos_ray.domain.types import AcceptedTypes, EntityPolicy
from cos_ray.handlers.endpoints import largest_event
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.service import SERVICER_FUNCTIONS
from cos_ray.placement.shard_coordinator import ShardCoordinator
from cos_ray.postgres.database import Database
from cos_ray.readside.supervisor import ReadSideSupervisor
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.traces import TraceSettings
from cos_ray.transport.lazy_pickle import LazyPickle, pickle_lazily

CALLS_GRACE = 6.0
"""Seconds that calls in progress have when a replica behind Serve's proxies is to end."""

SPARE = 2.0
"""Seconds that a replica has to end beside those for its last calls; else Serve would cut them."""


@dataclass(frozen=True, slots=True)
class ReadSideProcess:
    """One actor of a read side."""

    namespace: str
    read_side: ReadSideId
    number: int
    build: LazyPickle[ReadSideSupervisor]

    def start(self) -> None:
        """Start it, if it does not run."""
        start_read_side(self.namespace, self.read_side, self.build, self.number)


@dataclass(frozen=True, slots=True)
class ShardCoordinatorProcess:
    """Who starts the shard hosts, and looks after them."""

    namespace: str
    build: LazyPickle[ShardCoordinator]

    def start(self) -> None:
        """Start it, if it does not run, and with it the hosts. Raises StartFailed."""
        start_shard_coordinator(self.namespace, self.build)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """All of a service but its ingress, ready to be started; and what the ingress works with."""

    spec: EntitySpec
    database: Database
    policy: CommandPolicy
    ingress_settings: IngressSettings
    shard_coordinator: ShardCoordinatorProcess | None
    """None with dedicated placement."""
    process_coordinator: ProcessCoordinatorProcess | None
    """None with sharded placement."""
    read_sides: tuple[ReadSideProcess, ...]

    @property
    def read_side_ids(self) -> tuple[ReadSideId, ...]:
        """The read sides that run."""
        return self.spec.journal.read_sides

    @property
    def way_in(self) -> LazyPickle[WayIn]:
        """How other programs of the cluster come to entities."""
        return pickle_lazily(WayIn, self.spec, self.policy.command_timeout)

    def ingress(self, build: Callable[..., Any], *more: object) -> LazyPickle[Any]:
        """How a replica of the ingress is built, by `build`, which is given `more`, too."""
        return pickle_lazily(
            build, self.spec, self.database, self.policy, self.ingress_settings, self.read_side_ids, *more
        )


def service_spec_of(
    settings: Settings,
    read_sides: Sequence[ReadSideConfig],
    logs: LogSettings,
    traces: TraceSettings | None,
    database: Database,
    shards: int,
    namespace: str,
    *,
    is_deployed: bool = False,
) -> ServiceSpec:
    """The parts that the settings ask for, in this namespace. `is_deployed`: see `doors_of`."""
    active = [config for config in read_sides if config.enabled]
    write_handler = write_target(settings)
    actors = settings.read_sides.actors
    build_journal = pickle_lazily(
        build_node_journal,
        logs,
        database,
        retention_of(settings, read_sides),
        settings.entities.idempotency_ttl,
        largest_event(write_handler),
    )
    spec = EntitySpec(
        namespace=namespace,
        shards=shards,
        write_handler=write_handler,
        call_timeout=settings.calls.handler_timeout,
        breaker=breaker_policy(settings.write_side),
        logs=logs,
        journal=JournalSpec(build_journal, tuple(config.read_side_id for config in active), actors),
        policy=_entity_policy(settings),
        limits=ProcessLimits(
            settings.entities.max_live_actors,
            settings.entities.idle_after.total_seconds(),
            settings.entities.most_cpu_percent / 100,
        ),
        traces=traces,
        tls=internal_tls(settings),
        is_sharded=settings.entities.placement is not Placement.DEDICATED,
        is_auto=settings.entities.placement is Placement.AUTO,
    )
    # A name of its own for each start: two may run under one namespace, on two clusters.
    release = ReleaseId(f"{namespace}/{secrets.token_hex(4)}")
    policy = CommandPolicy(
        command_timeout=settings.calls.command_timeout.total_seconds(),
        propagated_headers=settings.write_side.propagated_headers,
        persisted_headers=settings.write_side.persisted_headers,
        commands_at_once=settings.calls.commands_at_once,
    )
    return ServiceSpec(
        spec=spec,
        database=database,
        policy=policy,
        ingress_settings=ingress_settings_of(settings, is_deployed=is_deployed),
        shard_coordinator=_shard_coordinator(settings, spec) if spec.is_sharded else None,
        process_coordinator=None
        if spec.is_sharded
        else ProcessCoordinatorProcess(process_coordinator_spec(spec)),
        read_sides=tuple(
            _read_side(settings, config, spec, database, release, actors, number)
            for config in active
            for number in range(actors)
        ),
    )


def ingress_options(
    settings: Settings, application: str, ingress_settings: IngressSettings
) -> IngressOptions:
    """How the ingress listens and is spread."""
    service, listeners = settings.service, ingress_settings.listeners
    return IngressOptions(
        application=application,
        host=service.address,
        grpc_port=service.port,
        http_port=service.http_port,
        servicer_functions=SERVICER_FUNCTIONS,
        listens=listeners is not None,
        replicas=service.replicas,
        most_replicas=service.most_replicas,
        # Serve's own bound has to come after ours, for it has no word for the client.
        max_ongoing_requests=2 * settings.calls.commands_at_once,
        grace=SPARE + (CALLS_GRACE if listeners is None else listeners.ends_within),
    )


def _shard_coordinator(settings: Settings, spec: EntitySpec) -> ShardCoordinatorProcess:
    entities = settings.entities
    limits = LiveLimits(
        entities.idle_after.total_seconds(), entities.most_live_entities, entities.most_live_octets
    )
    build_host = pickle_lazily(build_shard_host, spec, limits)
    coordinator = ShardCoordinatorSpec(
        spec.namespace, spec.shards, entities.shard_actors, build_host, spec.logs, spec.tls
    )
    return ShardCoordinatorProcess(spec.namespace, pickle_lazily(build_shard_coordinator, coordinator))


def _read_side(
    settings: Settings,
    config: ReadSideConfig,
    spec: EntitySpec,
    database: Database,
    release: ReleaseId,
    actors: int,
    number: int,
) -> ReadSideProcess:
    target, breaker = read_target(settings, config), breaker_policy(settings.read_sides)
    read_side = ReadSideSpec(
        config, target, breaker, spec.shards, database, spec.logs, release, actors, number, spec.traces
    )
    return ReadSideProcess(
        spec.namespace, config.read_side_id, number, pickle_lazily(build_supervisor, read_side)
    )


def _entity_policy(settings: Settings) -> EntityPolicy:
    write_side = settings.write_side
    types = AcceptedTypes(frozenset(write_side.event_protos), frozenset(write_side.state_protos))
    return EntityPolicy(
        accepted_types=types if write_side.proto_validation else None,
        waiting_commands=settings.entities.waiting_commands,
        type_policy=_type_policy(settings),
    )


def _type_policy(settings: Settings) -> TypePolicy:
    wanted = settings.state_types
    return TypePolicy(
        on_change=OnChange(wanted.changes.value) if wanted.changes else None,
        states=frozenset(settings.write_side.state_protos),
        renames=followed_through(TypeChange(old, new) for old, new in wanted.pairs),
    )
