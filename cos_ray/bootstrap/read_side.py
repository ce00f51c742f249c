"""A read side, in one of its actors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cos_ray.bootstrap.journal import build_journal
from cos_ray.cluster.metrics_export import exported_meters
from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.domain.circuit_breaker import BreakerPolicy
from cos_ray.domain.ids import EntityId, Owner, ReleaseId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order
from cos_ray.handlers.breaker import Breaker, GuardedReadHandler
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint, ReadTarget
from cos_ray.handlers.trace_headers import Outgoing
from cos_ray.ports import ReadHandler
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.readside.supervisor import ReadSideSupervisor
from cos_ray.system.clock import SystemClock
from cos_ray.system.process_identity import own_name
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.recorders import ReadSideRecorder, breaker_gauge
from cos_ray.telemetry.traces import TraceSettings, tracing_of

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing


@dataclass(frozen=True, slots=True)
class ReadSideSpec:
    """What a read side's process must know."""

    config: ReadSideConfig
    target: ReadTarget
    breaker: BreakerPolicy | None
    """When to leave the read handler alone; None: never."""
    shards: int
    database: Database
    logs: LogSettings
    release: ReleaseId
    """The start of the service that this belongs to, restarts of this process included."""
    actors: int = 1
    """How many processes share the shards ..."""
    number: int = 0
    """... and which of them this is."""
    traces: TraceSettings | None = None
    """None: traces are off."""

    @property
    def home(self) -> list[Shard]:
        """The shards this process begins with."""
        return [Shard(shard) for shard in range(self.number, self.shards, self.actors)]


class OwnedReadHandler(ReadHandler, Protocol):
    """A read handler that its process has to close."""

    async def close(self) -> None:
        """Let go of connections."""
        ...


class OwnedReadSide:
    """A read side together with what it holds open."""

    def __init__(
        self,
        read_side: ReadSide,
        handler: OwnedReadHandler,
        journal: PostgresJournal,
        stores: PostgresReadSideStores,
        tracing: Tracing | None,
    ) -> None:
        self._read_side = read_side
        self._handler = handler
        self._journal = journal
        self._stores = stores
        self._tracing = tracing

    async def run(self) -> None:
        """Deliver until stopped."""
        await self._read_side.run()

    async def stop(self) -> None:
        """End `run` in good order."""
        await self._read_side.stop()

    async def close(self) -> None:
        """Let go of connections."""
        await self._handler.close()
        await self._stores.close()
        await self._journal.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.flush)

    def notify(self, shards: Iterable[Shard]) -> None:
        """Look for new events in these shards now."""
        self._read_side.notify(shards)

    async def obey(self, order: Order) -> Obeyed:
        """Do what an operator wants."""
        return await self._read_side.obey(order)

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        """Whether this event is confirmed; None: the shard is not ours."""
        return await self._read_side.handled(shard, entity_id, revision, timeout)


def build_supervisor(spec: ReadSideSpec) -> ReadSideSupervisor:
    """Keeps a read side running in this process."""
    spec.logs.apply()
    tracing = tracing_of(spec.traces, "read side")
    return ReadSideSupervisor(
        spec.config.read_side_id, partial(build_read_side, spec, tracing), SystemClock()
    )


async def build_read_side(spec: ReadSideSpec, tracing: Tracing | None = None) -> OwnedReadSide:
    """A read side with a handler of whichever kind."""
    config, clock = spec.config, SystemClock()
    journal = await build_journal(spec.logs, spec.database)
    opened = PostgresReadSideStores(spec.database)
    await opened.open()
    handler = _read_handler(spec, None if tracing is None else tracing.outgoing)
    read_side_id = config.read_side_id
    meters = exported_meters()
    served: ReadHandler = handler
    if spec.breaker is not None and not isinstance(spec.target, PythonEndpoint):
        guard = Breaker(read_side_id, spec.breaker, clock, breaker_gauge(meters, read_side_id))
        served = GuardedReadHandler(handler, guard)
    if tracing is not None:
        from cos_ray.telemetry.traced_events import traced_read_handler

        served = traced_read_handler(served, tracing)
    read_side = ReadSide(
        _settings(spec),
        [Shard(number) for number in range(spec.shards)],
        spec.home,
        Owner(own_name()),
        spec.release,
        Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters),
        served,
        clock,
        ReadSideRecorder(meters, read_side_id),
    )
    return OwnedReadSide(read_side, handler, journal, opened, tracing)


def _settings(spec: ReadSideSpec) -> ReadSideSettings:
    config = spec.config
    settings = ReadSideSettings(
        config.read_side_id, config.auto_start, config.policy, hand_over=config.timeout
    )
    if config.concurrency is not None:
        return replace(settings, concurrency=config.concurrency)
    # Whoever writes a class need not think of threads, unless asked to.
    return replace(settings, concurrency=1) if isinstance(spec.target, PythonEndpoint) else settings


def _read_handler(spec: ReadSideSpec, outgoing: Outgoing | None) -> OwnedReadHandler:
    """The handler at the target. Each kind's library is imported for that kind only."""
    config, breaker = spec.config, spec.breaker
    timeout = min(config.timeout, breaker.call_timeout) if breaker else config.timeout
    match spec.target:
        case GrpcEndpoint() as target:
            from cos_ray.handlers.grpc_read import GrpcReadHandler

            return GrpcReadHandler(target, timeout, outgoing)
        case HttpEndpoint() as target:
            from cos_ray.handlers.http_read import HttpReadHandler

            return HttpReadHandler(target, timeout, outgoing)
        case PythonEndpoint() as target:
            from cos_ray.handlers.python_read import python_read_handler

            return python_read_handler(target, config.timeout)
