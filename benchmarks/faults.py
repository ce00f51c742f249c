"""
How long clients wait when something dies: the series of time to next success, fault by fault.

    uv run python -m benchmarks.faults [--rounds 5] [--only "shard host,HAProxy"] [--into results.json]

Sharded placement with two hosts, the bank's handlers with a read side, embedded Postgres. 20 clients pay
into an account each, one deposit after the other, and send a deposit that failed again under its
idempotency key. A process is sent SIGKILL, or SIGSTOP where it says frozen. The figure of a round is the
longest that any of the clients had no success, counted from the fault; beside it, how many calls failed
with an error that the client saw. At the end every balance is compared with what was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
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
from tests.running_ray import live_actors
from tests.running_service import BankHandlers, RunningService, family_of

CLIENTS = 20
PATIENCE = 120.0
"""How long a round may take, in seconds."""

console = Console()


@dataclass
class Round:
    """One fault and what the clients saw of it."""

    fault: str
    seconds: float
    """The longest that a client waited for a success, from the fault on."""
    first: float
    """Until the first success of any client that had been sent after the fault."""
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that failed, by status."""


class Client:
    """Pays into one account, over and over."""

    def __init__(self, channel: grpc.aio.Channel, account: str) -> None:
        self._service = ChiefOfStateServiceStub(channel)
        self.account = account
        self.acknowledged = 0
        self.last_success = 0.0
        """When the last command that succeeded had been sent, by the monotonic clock."""
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
                sent = time.monotonic()
                try:
                    await self._service.ProcessCommand(
                        request, timeout=5, metadata=[("x-cos-idempotency-key", key)]
                    )
                    break
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error.code().name)
                    await asyncio.sleep(0.02)
            self.acknowledged += 1
            self.last_success = sent

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


async def one_round(name: str, hit: Callable[[], None], clients: list[Client]) -> Round:
    """Let a fault happen while all clients work; return when each of them has succeeded again."""
    steady = time.monotonic()
    await until(lambda: all(client.last_success > steady for client in clients))
    for client in clients:
        client.errors.clear()
    struck = time.monotonic()
    await asyncio.to_thread(hit)
    await until(lambda: any(client.last_success > struck for client in clients))
    first = time.monotonic() - struck
    await until(lambda: all(client.last_success > struck for client in clients))
    slowest = time.monotonic() - struck
    errors = [code for client in clients for code in client.errors]
    return Round(
        name,
        slowest,
        first,
        {code: errors.count(code) for code in sorted(set(errors))},
    )


class Faults:
    """What can be done to a running service."""

    def __init__(self, service: RunningService) -> None:
        self._service = service

    def all(self) -> dict[str, Callable[[], None]]:
        """Each fault with its name."""
        return {
            "shard host": lambda: self._kill(self._actors("shard-host:")[:1]),
            "shard host frozen for 20 s": lambda: self._freeze(self._actors("shard-host:")[0], 20),
            "shard keeper": lambda: self._kill(self._actors("shard-keeper")[:1]),
            "read side": lambda: self._kill(self._actors("read-side:")[:1]),
            "ingress replica": lambda: self._kill(self._replicas()),
            "Serve controller": lambda: self._kill(self._actors("SERVE_CONTROLLER_ACTOR")),
            "HAProxy": lambda: self._kill(self._named("haproxy")),
            "Postgres": lambda: self._kill(self._postmaster()),
            "GCS of Ray": lambda: self._kill(self._named("gcs_server")),
            "everything but the launcher": lambda: self._kill(self._family()),
        }

    def _actors(self, beginning: str) -> list[int]:
        return [actor.pid for actor in live_actors(self._service.dashboard, beginning)]

    def _replicas(self) -> list[int]:
        actors = live_actors(self._service.dashboard)
        return [actor.pid for actor in actors if actor.kind.startswith("ServeReplica")]

    def _family(self) -> list[int]:
        return list(family_of(self._service.pid))

    def _named(self, name: str) -> list[int]:
        family = family_of(self._service.pid).values()
        return [process.pid for process in family if process.name().startswith(name)]

    def _postmaster(self) -> list[int]:
        children = psutil.Process(self._service.pid).children()
        return [child.pid for child in children if child.name() == "postgres"]

    def _kill(self, pids: Iterable[int]) -> None:
        victims = list(pids)
        if not victims:
            raise RuntimeError("nobody to kill")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def _freeze(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(seconds, os.kill, (pid, signal.SIGCONT)).start()


async def measure(service: RunningService, rounds: int, only: set[str]) -> tuple[list[Round], bool]:
    """All rounds, and whether the balances are what was acknowledged."""
    done: list[Round] = []
    async with grpc.aio.insecure_channel(service.address) as channel:
        clients = [Client(channel, f"account-{number}") for number in range(CLIENTS)]
        await asyncio.gather(*(client.open() for client in clients))
        running = [asyncio.create_task(client.run()) for client in clients]
        for name, hit in Faults(service).all().items():
            if only and name not in only:
                continue
            for _ in range(rounds):
                done.append(await one_round(name, hit, clients))
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
    table = Table("fault", "rounds", "median s", "least", "greatest", "first client s", "errors seen")
    for name in dict.fromkeys(each.fault for each in rounds):
        mine = [each for each in rounds if each.fault == name]
        waits = [each.seconds for each in mine]
        errors = sum(sum(each.errors.values()) for each in mine)
        table.add_row(
            name,
            str(len(mine)),
            *(f"{value:.2f}" for value in (statistics.median(waits), min(waits), max(waits))),
            f"{statistics.median(each.first for each in mine):.2f}",
            str(errors),
        )
    return table


def main() -> None:
    """Start the service, let it suffer, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="faults, with commas between them")
    parser.add_argument("--into", type=Path, help="a file for the figures as JSON")
    options = parser.parse_args()
    only = {name.strip() for name in options.only.split(",") if name.strip()}
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="cos-ray-faults-")))
        handlers = BankHandlers(folder)
        running.callback(handlers.stop)
        settings = {"COS_ENTITY_PLACEMENT": "sharded", "COS_SHARD_ACTORS": "2", "LOG_LEVEL": "WARN"}
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
