"""The whole service with sharded placement, and what becomes of it when its processes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import psutil
import pytest

from cos_ray.samples.bank.client import Bank, BankError
from tests.support.running_service import BankHandlers, RunningService, eventually, plain_environment

ACCOUNTS = [f"account-{number}" for number in range(20)]

TOKEN = secrets.token_hex(32)
"""What an operator gives to the service and to programs that are to call it."""


@pytest.fixture(scope="module")
def sharded(handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests here, with two shard hosts and two ingress replicas."""
    settings = {
        "COS_ENTITY_PLACEMENT": "sharded",
        "COS_SHARD_ACTORS": "2",
        "COS_INGRESS_REPLICAS": "2",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    service = RunningService(tmp_path_factory.mktemp("sharded"), {**handlers.settings, **settings})
    try:
        service.start()
        yield service
    finally:
        service.end()


class Depositor:
    """Deposits one at a time to each account in turn; what was acknowledged, must be there."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.acknowledged = dict.fromkeys(ACCOUNTS, 0)
        self.in_doubt = dict.fromkeys(ACCOUNTS, 0)

    async def run(self, account: str) -> None:
        while True:
            try:
                await self._bank.deposit(account, 1)
            except (BankError, grpc.aio.AioRpcError):
                self.in_doubt[account] += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged[account] += 1

    @property
    def done(self) -> int:
        return sum(self.acknowledged.values())

    async def go_on(self, further: int, within: float) -> None:
        wanted = self.done + further

        async def wait() -> None:
            while self.done < wanted:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(wait(), within)


@asynccontextmanager
async def under_load(service: RunningService) -> AsyncIterator[Depositor]:
    """Deposits all the while; afterwards each balance is what was acknowledged, and doubted at the most."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        before = {}
        for account in ACCOUNTS:
            with contextlib.suppress(BankError):
                await bank.open(account, "Load")
            before[account] = (await bank.account(account)).balance
        depositor = Depositor(bank)
        running = [asyncio.ensure_future(depositor.run(account)) for account in ACCOUNTS]
        try:
            await depositor.go_on(20, 60)
            yield depositor
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for account in ACCOUNTS:
            # The last deposit may have been under way.
            gained = (await bank.account(account)).balance - before[account]
            least = depositor.acknowledged[account]
            assert least <= gained <= least + depositor.in_doubt[account] + 1


def processes(service: RunningService, beginning: str) -> list[psutil.Process]:
    """Of the service's processes those that are called so."""
    family = psutil.Process(service.pid).children(recursive=True)
    found = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(beginning) or process.name() == beginning:
                found.append(process)
    return found


def is_another(service: RunningService, head: psutil.Process) -> bool:
    """Whether Ray has a new head."""
    return any(process.pid != head.pid for process in processes(service, "gcs_server"))


async def test_any_replica_reaches_any_entity(sharded: RunningService) -> None:
    async with under_load(sharded) as load:
        await load.go_on(200, 60)
        assert sum(load.in_doubt.values()) == 0
    assert len(processes(sharded, "ray::ServeReplica")) == 2
    assert len(processes(sharded, "ray::ShardHostActor")) == 2


async def test_an_operator_sees_where_entities_live_and_changes_it_under_load(
    sharded: RunningService,
) -> None:
    async with under_load(sharded) as load:
        looked = await asyncio.to_thread(cos_ray, "status", "--json", "--port", str(sharded.port))
        shown = json.loads(looked.stdout)
        assert shown["placement"] == "sharded"
        assert shown["silent"] == []
        assert shown["commands_per_second"] > 0
        assert len(shown["ingress"]) == 2
        assert [host["host"] for host in shown["shard_hosts"]] == ["0", "1"]
        assert sum(host["shards"] for host in shown["shard_hosts"]) == 16
        assert int(shown["live_entities"]) >= len(ACCOUNTS)
        assert shown["read_side_events_behind"].keys() == {"balances"}
        for hosts in ("3", "2"):
            resized = await asyncio.to_thread(cos_ray, "resize", hosts, "--port", str(sharded.port))
            assert resized.returncode == 0
            await load.go_on(50, 60)
        assert sum(load.in_doubt.values()) == 0
    tables = cos_ray("status", "--port", str(sharded.port)).stdout
    assert "sharded: " in tables
    assert "shard host" in tables


def test_a_program_of_the_same_cluster_calls_entities_directly(sharded: RunningService) -> None:
    environment = {
        **plain_environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Where tests are started by `uv run`, Ray would start the journal's actor by it again.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    program = [sys.executable, "-c", PROGRAM, sharded.ray_address]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "revision 1",
        "twenty at once, each of its own key: revisions 2 to 21",
        "a key again: revision 2",
        "now: revision 21, balance 20",
        "ALREADY_EXISTS: the account is open already, for Ray",
        "ABORTED: expected revision 3, actual 21",
        "NOT_FOUND: ",
        "INVALID_ARGUMENT: empty entity ID",
    ]


PROGRAM = """
import asyncio, sys
import ray, cos_ray
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, Deposit, OpenAccount

async def main():
    bank = cos_ray.connect()
    opened = await bank.process("direct", OpenAccount(owner="Ray"))
    print("revision", opened.revision)
    calls = (bank.process("direct", Deposit(amount=1), key=str(number)) for number in range(20))
    revisions = sorted(state.revision for state in await asyncio.gather(*calls))
    print(f"twenty at once, each of its own key: revisions {revisions[0]} to {revisions[-1]}")
    again = await bank.process("direct", Deposit(amount=1), key="0")
    print("a key again: revision", again.revision)
    now, account = await bank.state("direct"), Account()
    now.state.Unpack(account)
    print(f"now: revision {now.revision}, balance {account.balance}")
    for failing in (
        bank.process("direct", OpenAccount(owner="Ray")),
        bank.process("direct", Deposit(amount=1), expected_revision=3),
        bank.state("nobody"),
        bank.state(""),
    ):
        try:
            await failing
        except cos_ray.CallFailed as error:
            print(error)

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
asyncio.run(main())
"""


def cos_ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does."""
    command = [sys.executable, "-m", "cos_ray", *arguments]
    environment = {**plain_environment(), "COLUMNS": "140"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "victim",
    ["ray::ShardHostActor", "ray::ServeReplica", "ray::ServeController", "ray::ShardCoordinatorActor"],
)
async def test_after_the_loss_of_a_process_commands_succeed_again(
    sharded: RunningService, victim: str
) -> None:
    async with under_load(sharded) as load:
        lost = processes(sharded, victim)
        assert lost
        lost[0].kill()
        await load.go_on(200, 60)


async def test_with_its_cluster_gone_the_service_starts_again_by_itself(sharded: RunningService) -> None:
    async with under_load(sharded) as load:
        launcher = sharded.pid
        (head,) = processes(sharded, "gcs_server")
        head.kill()
        # For a moment all goes on without it; then Ray is started anew, and until then nobody listens.
        await asyncio.to_thread(eventually, lambda: is_another(sharded, head), 90)
        await load.go_on(50, 60)
        assert sharded.pid == launcher


async def test_with_everything_but_its_launcher_gone_the_service_starts_again(
    sharded: RunningService,
) -> None:
    async with under_load(sharded) as load:
        for process in psutil.Process(sharded.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        await load.go_on(50, 110)
    assert sharded.stop() == 0
    assert sharded.left_behind() == []
