"""
What a command costs with each kind of write handler: CPU and latency.

    uv run python benchmarks/handlers.py --repetitions 7

The bank's rules behind gRPC, behind HTTP/JSON and inside the process (as plain and as async
methods). Commands run through the entity core as it is, on a journal in memory: no Ray, no
database, so the numbers are those of the handler and the way to it. A command is a deposit: one
HandleCommand, one HandleEvent. Alone: one entity, one command after the other. Together: many
entities at once. Every figure is the median over the repetitions, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import psutil
from google.protobuf.any import pack
from google.protobuf.message import Message

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.cli.child_process import ChildProcess
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import Accepted, Command, Packed
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint, WriteTarget
from cos_ray.ports import WriteHandler
from cos_ray.samples.bank.accounts import Event
from cos_ray.samples.bank.accounts import handle_command as bank_command
from cos_ray.samples.bank.accounts import handle_event as bank_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, Deposit, OpenAccount
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.entity import Entity

BANK = "cos_ray.samples.bank"
KINDS = ("gRPC", "HTTP/JSON", "Python, plain", "Python, async")

serials = itertools.count()


class AsyncBank:
    """The bank's rules as async methods."""

    async def handle_command(self, command: Deposit | OpenAccount, prior_state: Account | None, meta: object):
        return bank_command(command, prior_state)

    async def handle_event(self, event: Event, prior_state: Account | None, meta: object):
        return bank_event(event, prior_state)


@dataclass
class Figures:
    """What one repetition measured."""

    alone: float
    """Median latency of a command, in ms."""
    alone_p99: float
    together: float
    """Commands per second."""
    ours: float
    """CPU of this process for a command, in ms."""
    theirs: float
    """CPU of the handler's process, in ms."""


@asynccontextmanager
async def handler_of(kind: str) -> AsyncIterator[tuple[WriteHandler, Callable[[], float]]]:
    """A handler of this kind, and the CPU seconds its own process has used."""
    child = None
    target: WriteTarget
    if kind in ("gRPC", "HTTP/JSON"):
        command = "write-handler" if kind == "gRPC" else "http-write-handler"
        child = ChildProcess([BANK, command, "--port", "0"], os.environ)
        line = child.wait_for(lambda line: " listening on " in line, 60)
        port = int(line.rsplit(":", 1)[1])
        target = GrpcEndpoint("127.0.0.1", port) if kind == "gRPC" else HttpEndpoint("127.0.0.1", port)
    else:
        name = f"{__name__}:AsyncBank" if kind.endswith("async") else f"{BANK}.python_handler:BankAccounts"
        target = PythonEndpoint(name)
    process = psutil.Process(child.pid) if child else None

    def used() -> float:
        return sum(process.cpu_times()[:2]) if process else 0.0

    try:
        yield build_write_handler(target, timedelta(seconds=60), None, Meters()), used
    finally:
        if child:
            child.stop()


def command_of(entity_id: str, message: Message) -> Command:
    packed = Packed(pack(message).SerializeToString())
    return Command(EntityId(entity_id), packed, CommandId(str(next(serials))), 60.0)


async def run(entity: Entity, entity_id: str, message: Message) -> None:
    reply = await entity.process(command_of(entity_id, message))
    assert isinstance(reply, Accepted), reply


async def measure(handler: WriteHandler, used: Callable[[], float], commands: int, entities: int) -> Figures:
    journal, clock = MemoryJournal(), SystemClock()
    ids = [f"account-{number}" for number in range(entities)]
    accounts = {id_: Entity(EntityId(id_), Shard(0), handler, journal, clock) for id_ in ids}
    for id_, entity in accounts.items():
        await run(entity, id_, OpenAccount(owner="Ada"))
    latencies = []
    for _ in range(commands):
        begun = time.perf_counter()
        await run(accounts[ids[0]], ids[0], Deposit(amount=1))
        latencies.append((time.perf_counter() - begun) * 1000)

    async def deposits(id_: str) -> None:
        for _ in range(commands // entities):
            await run(accounts[id_], id_, Deposit(amount=1))

    done = commands // entities * entities
    begun, ours, theirs = time.perf_counter(), time.process_time(), used()
    await asyncio.gather(*map(deposits, ids))
    elapsed = time.perf_counter() - begun
    return Figures(
        alone=statistics.median(latencies),
        alone_p99=statistics.quantiles(latencies, n=100)[98],
        together=done / elapsed,
        ours=(time.process_time() - ours) / done * 1000,
        theirs=(used() - theirs) / done * 1000,
    )


async def main(repetitions: int, commands: int, entities: int) -> None:
    measured: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    # In turns, so that what else the machine does meets all kinds alike.
    for repetition in range(repetitions + 1):
        for kind in KINDS:
            async with handler_of(kind) as (handler, used):
                await measure(handler, used, 200, entities)
                if repetition:
                    measured[kind].append(await measure(handler, used, commands, entities))
    print(f"{repetitions} repetitions of {commands} commands; together: {entities} entities at once")
    heads = ["alone, ms", "alone p99, ms", "together, 1/s", "CPU here, ms", "CPU there, ms"]
    print(f"{'kind':14}" + "".join(f"{head:>26}" for head in heads))
    for kind, figures in measured.items():
        columns = [[getattr(each, name) for each in figures] for name in Figures.__annotations__]
        print(f"{kind:14}" + "".join(f"{spread(column):>26}" for column in columns))


def spread(values: list[float]) -> str:
    digits = 0 if statistics.median(values) > 100 else 3
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--commands", type=int, default=2000)
    parser.add_argument("--entities", type=int, default=32)
    given = parser.parse_args()
    asyncio.run(main(given.repetitions, given.commands, given.entities))
