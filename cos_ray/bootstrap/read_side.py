"""A read side, in its actor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from cos_ray.bootstrap.journal import build_journal
from cos_ray.cluster.metrics import breaker_gauge
from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.domain.circuit import BreakerPolicy
from cos_ray.domain.ids import Shard
from cos_ray.handlers.breaker import Breaker, GuardedReadHandler
from cos_ray.handlers.grpc_read import GrpcReadHandler
from cos_ray.handlers.targets import GrpcTarget
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.offsets import PostgresOffsets
from cos_ray.readside.manager import Manager
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.logs import LogSettings


@dataclass(frozen=True, slots=True)
class ReadSideWiring:
    """What a read side's process must know."""

    config: ReadSideConfig
    target: GrpcTarget
    breaker: BreakerPolicy | None
    """When to leave the read handler alone; None: never."""
    shards: int
    database: Database
    logs: LogSettings


class OwnedReadSide:
    """A read side together with what it holds open."""

    def __init__(
        self,
        read_side: ReadSide,
        handler: GrpcReadHandler,
        journal: PostgresJournal,
        offsets: PostgresOffsets,
    ) -> None:
        self._read_side = read_side
        self._handler = handler
        self._journal = journal
        self._offsets = offsets

    async def run(self) -> None:
        """Deliver until stopped."""
        await self._read_side.run()

    async def stop(self) -> None:
        """End `run` in good order."""
        await self._read_side.stop()

    async def close(self) -> None:
        """Let go of connections."""
        await self._handler.close()
        await self._offsets.close()
        await self._journal.close()

    def poke(self, shards: Iterable[Shard]) -> None:
        """Look for new events in these shards now."""
        self._read_side.poke(shards)


def build_manager(wiring: ReadSideWiring) -> Manager:
    """Keeps a read side running in this process."""
    wiring.logs.apply()
    return Manager(wiring.config.read_side_id, partial(build_read_side, wiring), SystemClock())


async def build_read_side(wiring: ReadSideWiring) -> OwnedReadSide:
    """A read side that calls its handler over gRPC."""
    config = wiring.config
    journal = await build_journal(wiring.logs, wiring.database)
    offsets = PostgresOffsets(wiring.database)
    await offsets.open()
    clock, breaker = SystemClock(), wiring.breaker
    timeout = min(config.timeout, breaker.call_timeout) if breaker else config.timeout
    handler = GrpcReadHandler(wiring.target, timeout)
    read_side_id = config.read_side_id
    guard = Breaker(read_side_id, breaker, clock, breaker_gauge(read_side_id)) if breaker else None
    read_side = ReadSide(
        ReadSideSettings(config.read_side_id),
        [Shard(number) for number in range(wiring.shards)],
        journal,
        offsets,
        GuardedReadHandler(handler, guard) if guard else handler,
        clock,
    )
    return OwnedReadSide(read_side, handler, journal, offsets)
