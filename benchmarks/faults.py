"""
How long clients wait when something dies: the series of time to next success, fault by fault.

    uv run python -m benchmarks.faults [--rounds 5] [--replicas 2] [--only "shard host,Postgres"]
                                              [--into results.json]

Sharded placement with two hosts, the bank's handlers with a read side, embedded Postgres. 20 clients pay
into an account each, one deposit after the other, and send a deposit that failed again under its
idempotency key. A process is sent SIGKILL, or SIGSTOP where it says frozen. The figure of a round is the
longest time between two successes of a client from the fault on, until all have worked for some seconds
again; beside it, how many calls failed with an error that the client saw. At the end every balance is
compared with what was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import psutil
from google.protobuf.any import pack, unpack_as
from rich.console import Console
from rich.table import Table

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, Deposit, OpenAccount
from tests.support.running_ray import live_actors
from tests.support.running_service import BankHandlers, RunningService, family_of

CLIENTS = 20
PATIENCE = 120.0
"""How long a round may take, in seconds."""

STEADY = 4.0
"""Seconds without trouble after which the next fault may come."""

WELL_WITHIN = 1.0
"""Seconds; a client that waits longer is in trouble."""

console = Console()


@dataclass
class Round:
    """One fault and what the clients saw of it."""

    fault: str
    seconds: float
    """The longest that a client was without success."""
    typical: float
    """The same of the client in the middle."""
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that failed, by status."""


class Client:
    """Pays into one account, over and over."""

    def __init__(self, channel: grpc.aio.Channel, account: str) -> None:
        self._service = ChiefOfStateServiceStub(channel)
        self.account = account
        self.acknowledged = 0
        self.succeeded = 0.0
        """When it last had an answer, by the monotonic clock."""
        self.longest = 0.0
        """Seconds without one, since it was last asked to forget."""
        self.slow_until = 0.0
        """When it last had an answer for which it had waited for long."""
        self.errors: list[str] = []

    async def open(self) -> None:
        """Make the account."""
        command = pack(OpenAccount(owner=self.account))
        await self._service.ProcessCommand(
            ProcessCommandRequest(entity_id=self.account, command=command), timeout=30
        )

    async def run(self) -> None:
        """Until cancelled."""
        command = pack(Deposit(amount=1))
        request = ProcessCommandRequest(entity_id=self.account, command=command)
        while True:
            key = f"{self.account}-{self.acknowledged}"
            while True:
                try:
                    await self._service.ProcessCommand(
                        request, timeout=5, metadata=[("x-cos-idempotency-key", key)]
                    )
                    break
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error.code().name)
                    await asyncio.sleep(0.02)
            self.acknowledged += 1
            now = time.monotonic()
            if now - self.succeeded > WELL_WITHIN:
                self.slow_until = now
            self.longest = max(self.longest, now - self.succeeded)
            self.succeeded = now

    async def balance(self) -> int:
        """What the service says."""
        reply = await self._service.GetState(GetStateRequest(entity_id=self.account), timeout=30)
        return unpack_as(reply.state, Account).balance


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the clients did not get on within {PATIENCE} s")
        await asyncio.sleep(0.005)


def are_well(clients: list[Client], since: float) -> bool:
    """Whether no client has seen an error, or waited for long, since then."""
    now = time.monotonic()
    return all(now - client.succeeded <= WELL_WITHIN and client.slow_until <= since for client in clients)


async def one_round(name: str, fault: Fault, clients: list[Client]) -> Round:
    """Let a fault happen while all clients work; return when each of them has succeeded again."""
    # What the last one hit has to be there again.
    deadline = time.monotonic() + PATIENCE
    while not (victims := await asyncio.to_thread(fault.victims)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {name} within {PATIENCE} s")
        await asyncio.sleep(0.2)
    await until(lambda: are_well(clients, time.monotonic() - STEADY))
    struck = time.monotonic()
    for client in clients:
        client.errors.clear()
        client.succeeded, client.longest = struck, 0.0
    for pid in victims:
        strike(pid, fault.frozen_for)
    await asyncio.sleep(fault.watched)
    await until(lambda: are_well(clients, time.monotonic() - STEADY))
    waits = [client.longest for client in clients]
    errors = [code for client in clients for code in client.errors]
    return Round(
        name, max(waits), statistics.median(waits), {code: errors.count(code) for code in sorted(set(errors))}
    )


@dataclass(frozen=True)
class Fault:
    """What can be done to a running service."""

    victims: Callable[[], list[int]]
    """The processes that are hit, as things are."""
    frozen_for: float | None = None
    """Seconds; None: they are killed."""
    watched: float = 6.0
    """Seconds in which its consequences show."""


def strike(pid: int, frozen_for: float | None) -> None:
    """Kill a process, or let it stand still for a while."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL if frozen_for is None else signal.SIGSTOP)
    if frozen_for is not None:
        threading.Timer(frozen_for, wake, (pid,)).start()


def wake(pid: int) -> None:
    """Let a process go on that may have been replaced, and ended, meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


class Faults:
    """All that is done to a service."""

    def __init__(self, service: RunningService) -> None:
        self._service = service

    def all(self) -> dict[str, Fault]:
        """Each fault with its name."""
        return {
            "shard host": Fault(lambda: self._actors("shard-host:")[:1]),
            "shard host frozen for 20 s": Fault(lambda: self._actors("shard-host:")[:1], 20, 25),
            "shard coordinator": Fault(lambda: self._actors("shard-coordinator")[:1]),
            "read side": Fault(lambda: self._actors("read-side:")[:1]),
            "ingress replica": Fault(lambda: self._replicas()[:1]),
            "Serve controller": Fault(lambda: self._actors("SERVE_CONTROLLER_ACTOR")),
            "Postgres": Fault(self._postmaster),
            "GCS of Ray": Fault(lambda: self._named("gcs_server"), watched=30),
            "everything but the launcher": Fault(lambda: list(family_of(self._service.pid))),
        }

    def _actors(self, beginning: str) -> list[int]:
        # While Ray's dashboard comes up again, nobody is found.
        with contextlib.suppress(Exception):
            return [
                actor.pid
                for actor in live_actors(self._service.dashboard, beginning, self._service.ray_token)
            ]
        return []

    def _replicas(self) -> list[int]:
        with contextlib.suppress(Exception):
            actors = live_actors(self._service.dashboard, token=self._service.ray_token)
            return [actor.pid for actor in actors if actor.kind.startswith("ServeReplica")]
        return []

    def _named(self, name: str) -> list[int]:
        family = family_of(self._service.pid).values()
        return [process.pid for process in family if process.name().startswith(name)]

    def _postmaster(self) -> list[int]:
        children = psutil.Process(self._service.pid).children()
        return [child.pid for child in children if child.name() == "postgres"]


async def measure(service: RunningService, rounds: int, only: set[str]) -> tuple[list[Round], bool]:
    """All rounds, and whether the balances are what was acknowledged."""
    done: list[Round] = []
    async with AsyncExitStack() as channels:
        clients = []
        for number in range(CLIENTS):
            # A connection of its own, as clients elsewhere have: so each replica has its share of them.
            channel = grpc.aio.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)])
            clients.append(Client(await channels.enter_async_context(channel), f"account-{number}"))
        await asyncio.gather(*(client.open() for client in clients))
        running = [asyncio.create_task(client.run()) for client in clients]
        for name, fault in Faults(service).all().items():
            if only and name not in only:
                continue
            for _ in range(rounds):
                done.append(await one_round(name, fault, clients))
                console.print(f"{name}: {done[-1].seconds:.2f} s, errors {done[-1].errors}")
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        # A deposit whose answer was cut off may be stored as well: one more at most.
        balances = await asyncio.gather(*(client.balance() for client in clients))
        honest = all(
            client.acknowledged <= balance <= client.acknowledged + 1
            for client, balance in zip(clients, balances, strict=True)
        )
    return done, honest


def table_of(rounds: list[Round]) -> Table:
    """A row per fault."""
    table = Table("fault", "rounds", "median s", "least", "greatest", "client in the middle", "errors seen")
    for name in dict.fromkeys(each.fault for each in rounds):
        mine = [each for each in rounds if each.fault == name]
        waits = [each.seconds for each in mine]
        errors = sum(sum(each.errors.values()) for each in mine)
        table.add_row(
            name,
            str(len(mine)),
            *(f"{value:.2f}" for value in (statistics.median(waits), min(waits), max(waits))),
            f"{statistics.median(each.typical for each in mine):.2f}",
            str(errors),
        )
    return table


def main() -> None:
    """Start the service, let it suffer, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=1, help="of the ingress; one of them is killed")
    parser.add_argument("--only", default="", help="faults, with commas between them")
    parser.add_argument("--into", type=Path, help="a file for the figures as JSON")
    options = parser.parse_args()
    only = {name.strip() for name in options.only.split(",") if name.strip()}
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="cos-ray-faults-")))
        handlers = BankHandlers(folder)
        running.callback(handlers.stop)
        settings = {
            "COS_ENTITY_PLACEMENT": "sharded",
            "COS_SHARD_ACTORS": "2",
            "COS_INGRESS_REPLICAS": str(options.replicas),
            "LOG_LEVEL": "WARN",
        }
        service = RunningService(folder / "data", {**handlers.settings, **settings})
        running.callback(service.end)
        service.start()
        rounds, honest = asyncio.run(measure(service, options.rounds, only))
    console.print(table_of(rounds))
    console.print("balances: as acknowledged" if honest else "balances: NOT what was acknowledged")
    if options.into is not None:
        options.into.write_text(json.dumps([asdict(each) for each in rounds], indent=1), encoding="utf-8")
    if not honest:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
