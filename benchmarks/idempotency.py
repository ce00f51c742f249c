"""
What an idempotency key costs a command: its time and the processors' time, with and without.

    uv run python -m benchmarks.idempotency [--rounds 15] [--commands 300] [--entities 64]

The entity core (`writeside.entity`) over an embedded Postgres of its own. With and without take
turns, so that whatever else the machine does falls on both. Three loads: one entity that is sent a
command when the last one is done, with a handler that takes no time; many such entities at once,
whose appends travel together; and one entity whose handler is called over gRPC, as most are. In
the first two a key is as expensive as it can be, relative to the rest. Processor time is that of
this process (the gRPC handler runs in it, too) and of Postgres.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import grpc.aio
import psutil

from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey
from cos_ray.domain.messages import Accepted, Command, EntityState, Headers, Meta, Packed
from cos_ray.domain.sharding import shard_of
from cos_ray.handlers.channels import GrpcEndpoint
from cos_ray.handlers.grpc_write import GrpcWriteHandler
from cos_ray.ports import WriteHandler
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.protocol.codec import unpack
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.system.clock import SystemClock
from cos_ray.writeside.entity import Entity

SHARDS = 16
EVENT = Packed(b"\x0a\x09type/Test\x12\x20" + bytes(32))
STATE = Packed(b"\x0a\x09type/Test\x12\x40" + bytes(64))

_serials = count()


class InstantHandler:
    """One event for each command, one state for each event."""

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """One event."""
        return Persist((EVENT,))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Always the same."""
        return STATE


class InstantServicer(WriteSideHandlerServiceServicer):
    """The same, behind gRPC."""

    async def HandleCommand(self, request: HandleCommandRequest, context: object) -> HandleCommandResponse:
        """One event."""
        return HandleCommandResponse(events=[unpack(EVENT)])

    async def HandleEvent(self, request: HandleEventRequest, context: object) -> HandleEventResponse:
        """Always the same."""
        return HandleEventResponse(resulting_state=unpack(STATE))


@asynccontextmanager
async def grpc_handler() -> AsyncIterator[GrpcWriteHandler]:
    """A way to the handler behind gRPC."""
    server = grpc.aio.server()
    add_WriteSideHandlerServiceServicer_to_server(InstantServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    handler = GrpcWriteHandler(GrpcEndpoint("127.0.0.1", port), timedelta(minutes=1))
    try:
        yield handler
    finally:
        await handler.close()
        await server.stop(None)


@dataclass(frozen=True)
class Measured:
    """What one command took, in microseconds."""

    elapsed: float
    here: float
    """Processor time of this process."""
    postgres: float
    """Processor time of the database's processes."""

    @property
    def processors(self) -> float:
        """All processor time."""
        return self.here + self.postgres


class Bench:
    """Entities over one journal, and the processes to watch."""

    def __init__(self, journal: PostgresJournal, handler: WriteHandler, entities: int) -> None:
        self.clock, self.journal, self.handler = SystemClock(), journal, handler
        self.entities = [self._entity(EntityId(f"e{next(_serials)}")) for _ in range(entities)]

    def _entity(self, entity_id: EntityId) -> tuple[EntityId, Entity]:
        shard = shard_of(entity_id, SHARDS)
        return entity_id, Entity(entity_id, shard, self.handler, self.journal, self.clock)

    async def run(self, commands: int, keyed: bool) -> Measured:
        """Send each entity its share of commands, one after the other."""
        database = _database_processes()
        before = time.perf_counter(), time.process_time()
        spent = _cpu(database)
        share = commands // len(self.entities)
        await asyncio.gather(*[self._send(*one, share, keyed) for one in self.entities])
        elapsed, here = time.perf_counter() - before[0], time.process_time() - before[1]
        # Of processes that came or went meanwhile, the autovacuum's, nothing is counted.
        postgres = sum(now - spent[pid] for pid, now in _cpu(database).items())
        return Measured(
            *[seconds / (share * len(self.entities)) * 1e6 for seconds in (elapsed, here, postgres)]
        )

    async def _send(self, entity_id: EntityId, entity: Entity, commands: int, keyed: bool) -> None:
        for _ in range(commands):
            key = IdempotencyKey(str(uuid.uuid4()))
            command_id = CommandId(f"bench-{next(_serials)}")
            reply = await entity.process(
                Command(entity_id, EVENT, command_id, 30.0, key=key if keyed else None)
            )
            assert isinstance(reply, Accepted), reply


def _database_processes() -> list[psutil.Process]:
    """Those that belong to this process's server, wherever they hang."""
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("postgres")]


def _cpu(processes: Sequence[psutil.Process]) -> dict[int, float]:
    """Seconds of processor time each of them has had."""
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            found[process.pid] = sum(process.cpu_times()[:2])
    return found


def _report(title: str, plain: Sequence[Measured], keyed: Sequence[Measured]) -> None:
    print(f"\n{title}, microseconds per command: median (quartiles)")
    for name in ("elapsed", "here", "postgres", "processors"):
        without, with_key = ([getattr(m, name) for m in series] for series in (plain, keyed))
        # Neighbours in time are compared: what slows the machine down slows both.
        ratios = [b / a - 1 for a, b in zip(without, with_key, strict=True) if a]
        print(f"  {name:10} without {_spread(without)}   with {_spread(with_key)}   more: {_percent(ratios)}")


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:7.0f} ({low:.0f}-{high:.0f})"


def _percent(ratios: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"


async def measure(journal: PostgresJournal, rounds: int, commands: int, entities: int) -> None:
    """All loads, one after the other."""
    instant = InstantHandler()
    await _alternate("one entity", Bench(journal, instant, 1), rounds, commands)
    await _alternate(f"{entities} entities at once", Bench(journal, instant, entities), rounds, 8 * commands)
    async with grpc_handler() as handler:
        await _alternate("one entity, handler over gRPC", Bench(journal, handler, 1), rounds, commands)


async def _alternate(title: str, bench: Bench, rounds: int, commands: int) -> None:
    series: dict[bool, list[Measured]] = {False: [], True: []}
    for number in range(rounds + 1):
        for keyed in (False, True) if number % 2 else (True, False):
            measured = await bench.run(commands, keyed)
            if number:  # the first warms up
                series[keyed].append(measured)
    _report(title, series[False], series[True])


async def _main(rounds: int, commands: int, entities: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="cos-ray-bench-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        database = await asyncio.to_thread(server.start)
        await asyncio.to_thread(migrate, database)
        journal = PostgresJournal(database)
        await journal.open()
        await measure(journal, rounds, commands, entities)
        await journal.close()
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="pairs of runs to compare")
    parser.add_argument(
        "--commands", type=int, default=300, help="commands of one run (8 times as many at once)"
    )
    parser.add_argument("--entities", type=int, default=64, help="entities at once")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.rounds, arguments.commands, arguments.entities))


if __name__ == "__main__":
    main()
