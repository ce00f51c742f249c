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
from cos_ray.bootstrap.doors import Doors, doors_of
from cos_ray.bootstrap.entity_keeper import keeper_recipe
from cos_ray.bootstrap.journal import build_node_journal
from cos_ray.bootstrap.read_side import ReadSideWiring, build_manager
from cos_ray.bootstrap.shard_host import KeeperWiring, build_shard_host, build_shard_keeper
from cos_ray.bootstrap.targets import breaker_policy, internal_tls, read_target, write_target
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.journal_actor import JournalRecipe
from cos_ray.cluster.keeper_actor import EntityKeeperProcess
from cos_ray.cluster.read_side_actor import start_read_side
from cos_ray.cluster.sealed import Sealed, seal
from cos_ray.cluster.serve_app import IngressOptions
from cos_ray.cluster.shard_keeper_actor import start_shard_keeper
from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.config.settings import Placement, Settings
from cos_ray.domain.entity_policy import EntityPolicy
from cos_ray.domain.ids import ReadSideId, ReleaseId
from cos_ray.domain.live_limits import LiveLimits
from cos_ray.domain.passivation import ProcessLimits
from cos_ray.domain.type_changes import OnChange, TypeChange, TypePolicy, followed_through
from cos_ray.domain.types import AcceptedTypes
from cos_ray.handlers.targets import largest_event
from cos_ray.ingress.policy import IngressPolicy
from cos_ray.ingress.service import SERVICER_FUNCTIONS
from cos_ray.postgres.database import Database
from cos_ray.readside.manager import Manager
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.traces import TraceSettings
from cos_ray.writeside.shard_keeper import ShardKeeper

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
    build: Sealed[Manager]

    def start(self) -> None:
        """Start it, if it does not run."""
        start_read_side(self.namespace, self.read_side, self.build, self.number)


@dataclass(frozen=True, slots=True)
class ShardKeeperProcess:
    """Who starts the shard hosts, and looks after them."""

    namespace: str
    build: Sealed[ShardKeeper]

    def start(self) -> None:
        """Start it, if it does not run, and with it the hosts. Raises StartFailed."""
        start_shard_keeper(self.namespace, self.build)


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """All of a service but its ingress, ready to be started; and what the ingress works with."""

    wiring: EntityWiring
    database: Database
    policy: IngressPolicy
    doors: Doors
    shard_keeper: ShardKeeperProcess | None
    """None with dedicated placement."""
    entity_keeper: EntityKeeperProcess | None
    """None with sharded placement."""
    read_sides: tuple[ReadSideProcess, ...]

    @property
    def read_side_ids(self) -> tuple[ReadSideId, ...]:
        """The read sides that run."""
        return self.wiring.journal.read_sides

    @property
    def way_in(self) -> Sealed[WayIn]:
        """How other programs of the cluster come to entities."""
        return seal(WayIn, self.wiring, self.policy.command_timeout)

    def ingress(self, build: Callable[..., Any], *more: object) -> Sealed[Any]:
        """How a replica of the ingress is built, by `build`, which is given `more`, too."""
        return seal(build, self.wiring, self.database, self.policy, self.doors, self.read_side_ids, *more)


def parts_of(
    settings: Settings,
    read_sides: Sequence[ReadSideConfig],
    logs: LogSettings,
    traces: TraceSettings | None,
    database: Database,
    shards: int,
    namespace: str,
    *,
    is_deployed: bool = False,
) -> ServiceParts:
    """The parts that the settings ask for, in this namespace. `is_deployed`: see `doors_of`."""
    active = [config for config in read_sides if config.enabled]
    write_handler = write_target(settings)
    actors = settings.read_sides.actors
    build_journal = seal(
        build_node_journal,
        logs,
        database,
        retention_of(settings, read_sides),
        settings.entities.idempotency_ttl,
        largest_event(write_handler),
    )
    wiring = EntityWiring(
        namespace=namespace,
        shards=shards,
        write_handler=write_handler,
        call_timeout=settings.calls.handler_timeout,
        breaker=breaker_policy(settings.write_side),
        logs=logs,
        journal=JournalRecipe(build_journal, tuple(config.read_side_id for config in active), actors),
        policy=_entity_policy(settings),
        limits=ProcessLimits(settings.entities.max_live_actors, settings.entities.idle_after.total_seconds()),
        traces=traces,
        tls=internal_tls(settings),
        is_sharded=settings.entities.placement is not Placement.DEDICATED,
        is_auto=settings.entities.placement is Placement.AUTO,
    )
    # A name of its own for each start: two may run under one namespace, on two clusters.
    release = ReleaseId(f"{namespace}/{secrets.token_hex(4)}")
    policy = IngressPolicy(
        command_timeout=settings.calls.command_timeout.total_seconds(),
        propagated_headers=settings.write_side.propagated_headers,
        persisted_headers=settings.write_side.persisted_headers,
        commands_at_once=settings.calls.commands_at_once,
    )
    return ServiceParts(
        wiring=wiring,
        database=database,
        policy=policy,
        doors=doors_of(settings, is_deployed=is_deployed),
        shard_keeper=_shard_keeper(settings, wiring) if wiring.is_sharded else None,
        entity_keeper=None if wiring.is_sharded else EntityKeeperProcess(keeper_recipe(wiring)),
        read_sides=tuple(
            _read_side(settings, config, wiring, database, release, actors, number)
            for config in active
            for number in range(actors)
        ),
    )


def ingress_options(settings: Settings, application: str, doors: Doors) -> IngressOptions:
    """How the ingress listens and is spread."""
    service, listeners = settings.service, doors.listeners
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


def _shard_keeper(settings: Settings, wiring: EntityWiring) -> ShardKeeperProcess:
    entities = settings.entities
    limits = LiveLimits(
        entities.idle_after.total_seconds(), entities.most_live_entities, entities.most_live_octets
    )
    build_host = seal(build_shard_host, wiring, limits)
    keeper = KeeperWiring(
        wiring.namespace, wiring.shards, entities.shard_actors, build_host, wiring.logs, wiring.tls
    )
    return ShardKeeperProcess(wiring.namespace, seal(build_shard_keeper, keeper))


def _read_side(
    settings: Settings,
    config: ReadSideConfig,
    wiring: EntityWiring,
    database: Database,
    release: ReleaseId,
    actors: int,
    number: int,
) -> ReadSideProcess:
    target, breaker = read_target(settings, config), breaker_policy(settings.read_sides)
    read_side = ReadSideWiring(
        config, target, breaker, wiring.shards, database, wiring.logs, release, actors, number, wiring.traces
    )
    return ReadSideProcess(wiring.namespace, config.read_side_id, number, seal(build_manager, read_side))


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
