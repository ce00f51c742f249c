"""The whole service with `auto` placement: no burst fails, and busy entities move to their own processes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from cos_ray.domain.ids import EntityId
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount
from cos_ray.testing.history import Ending, faults_of_calls
from tests.chaos.teller import Teller
from tests.chaos.test_bank import read_journal
from tests.e2e.test_sharded import TOKEN, cos_ray
from tests.support.running_ray import LiveActor, live_actors
from tests.support.running_service import BankHandlers, RunningService

CLIENTS = 64

BOUND = 5
"""How many processes entities may have."""


@pytest.fixture(scope="module")
def auto(handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests here, with two shard hosts and two ingress replicas."""
    settings = {
        "COS_ENTITY_PLACEMENT": "auto",
        "COS_SHARD_ACTORS": "2",
        "COS_INGRESS_REPLICAS": "2",
        "COS_MAX_LIVE_ENTITY_ACTORS": str(BOUND),
        # Other tests use the machine, too.
        "COS_AUTO_MAX_CPU_PERCENT": "100",
        "COS_PASSIVATION_IDLE_AFTER": "3s",
        # Whether a command is answered is asked here, and not how soon: other tests use the machine, too.
        "COS_COMMAND_HANDLER_TIMEOUT": "20",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    service = RunningService(tmp_path_factory.mktemp("auto"), {**handlers.settings, **settings})
    try:
        service.start()
        yield service
    finally:
        service.end()


def owners(service: RunningService) -> list[LiveActor]:
    """The entities' own actors."""
    return live_actors(service.dashboard, "entity:", token=TOKEN)


async def until_owners(service: RunningService, fit, within: float = 90.0):  # type: ignore[no-untyped-def]
    """Wait until the entities' own actors are as wanted, and return them."""

    async def wait() -> list[LiveActor]:
        while not fit(found := await asyncio.to_thread(owners, service)):
            await asyncio.sleep(0.2)
        return found

    return await asyncio.wait_for(wait(), within)


@asynccontextmanager
async def under_load(
    service: RunningService, accounts: list[EntityId], clients: int = 12
) -> AsyncIterator[Teller]:
    """Clients all the while; afterwards what they were told is what the journal holds."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        teller, stop = Payer(channel, accounts), asyncio.Event()
        await asyncio.gather(*(teller.process(each, OpenAccount(owner=each)) for each in accounts))
        running = [asyncio.ensure_future(teller.run(random.Random(seed), stop)) for seed in range(clients)]
        try:
            yield teller
        finally:
            stop.set()
            await asyncio.gather(*running)
    history = [event for event in read_journal(service) if event.envelope.meta.entity_id in accounts]
    assert faults_of_calls(history, teller.calls) == []
    assert teller.dishonest == []


class Payer(Teller):
    """Pays in only, which is never refused; looks now and then."""

    patience = 40.0

    async def run(self, chance: random.Random, stop: asyncio.Event) -> None:
        while not stop.is_set():
            account = chance.choice(self._accounts)
            if chance.random() < 0.1:
                await self.look(account)
            else:
                await self.process(account, Deposit(amount=next(self._amounts)))


async def go_on(teller: Teller, further: int, within: float = 60.0) -> None:
    """Wait for so many more answers."""
    wanted = len(teller.calls) + further

    async def wait() -> None:
        while len(teller.calls) < wanted:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), within)


async def burst(teller: Teller, accounts: list[EntityId], command: object) -> None:
    """One command to each, by `CLIENTS` clients at once."""
    queue = list(accounts)

    async def client() -> None:
        while queue:
            await teller.process(queue.pop(), command)  # type: ignore[arg-type]

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def test_200_resting_entities_met_by_64_clients_at_once_all_answer(auto: RunningService) -> None:
    accounts = [EntityId(f"burst-{number}") for number in range(200)]
    async with grpc.aio.insecure_channel(auto.address) as channel:
        teller = Teller(channel, accounts)
        await burst(teller, accounts, OpenAccount(owner="Burst"))
        await until_nobody_is_awake(auto)
        await burst(teller, accounts, Deposit(amount=5))
    assert Counter(call.ending for call in teller.calls) == {Ending.DONE: 400}
    assert teller.dishonest == []


async def test_2000_new_entities_used_once_waste_no_process(auto: RunningService) -> None:
    accounts = [EntityId(f"once-{number}") for number in range(2000)]
    async with grpc.aio.insecure_channel(auto.address) as channel:
        teller = Teller(channel, accounts)
        await burst(teller, accounts, OpenAccount(owner="Once"))
    assert Counter(call.ending for call in teller.calls) == {Ending.DONE: 2000}
    assert [actor.name for actor in await asyncio.to_thread(owners, auto) if "once-" in actor.name] == []


async def test_busy_entities_move_under_load_of_two_replicas_and_no_command_fails(
    auto: RunningService,
) -> None:
    accounts = [EntityId(f"busy-{number}") for number in range(4)]
    async with under_load(auto, accounts) as teller:
        wanted = {f"entity:{each}" for each in accounts}
        await until_owners(auto, lambda found: wanted <= {actor.name for actor in found})
        await go_on(teller, 200)
        shown = await asyncio.to_thread(status, auto)
        assert shown["placement"] == "auto"
        named = {each for host in shown["shard_hosts"] for each in host["entities_with_process"]}
        assert named >= set(accounts)
    assert {call.ending for call in teller.calls} == {Ending.DONE}
    # Idle, they leave in the usual way.
    await until_owners(auto, lambda found: not wanted & {actor.name for actor in found})


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_when_its_process_is_lost_an_entity_goes_on_in_a_shard_host(
    auto: RunningService, fault: signal.Signals
) -> None:
    accounts = [EntityId(f"{fault.name.lower()}-{number}") for number in range(3)]
    async with under_load(auto, accounts) as teller:
        for _ in range(3):
            found = await until_owners(
                auto, lambda found: any(fault.name.lower() in one.name for one in found)
            )
            victim = next(actor for actor in found if fault.name.lower() in actor.name)
            os.kill(victim.pid, fault)
            await go_on(teller, 100)
            await until_owners(auto, lambda found, pid=victim.pid: pid not in {one.pid for one in found})
        await go_on(teller, 100)
    assert {call.ending for call in teller.calls} == {Ending.DONE}


async def test_shard_hosts_come_and_go_while_entities_have_processes_and_no_command_fails(
    auto: RunningService,
) -> None:
    accounts = [EntityId(f"resized-{number}") for number in range(6)]
    async with under_load(auto, accounts) as teller:
        await until_owners(auto, lambda found: sum("resized-" in actor.name for actor in found) >= 3)
        for hosts in ("3", "1", "2"):
            resized = await asyncio.to_thread(cos_ray, "resize", hosts, "--port", str(auto.port))
            assert resized.returncode == 0, resized.stderr
            await go_on(teller, 200)
    assert {call.ending for call in teller.calls} == {Ending.DONE}


async def test_beyond_the_bound_entities_share_and_an_operator_sees_why(auto: RunningService) -> None:
    accounts = [EntityId(f"many-{number}") for number in range(20)]
    async with under_load(auto, accounts, CLIENTS) as teller:
        await until_owners(auto, lambda found: sum("many-" in actor.name for actor in found) == BOUND)
        await go_on(teller, 500)
        assert len(await asyncio.to_thread(owners, auto)) <= BOUND
        shown = await asyncio.to_thread(status, auto)
        reasons: Counter[str] = Counter()
        for host in shown["shard_hosts"]:
            reasons.update({each["why"]: int(each["entities"]) for each in host["shared"]})
        assert reasons["no room for a process"] > 0
        tables = await asyncio.to_thread(cos_ray, "status", "--port", str(auto.port))
        assert "processes of their own" in tables.stdout
        assert "no room for a process" in tables.stdout
    assert {call.ending for call in teller.calls} == {Ending.DONE}


def status(service: RunningService) -> dict:  # type: ignore[type-arg]
    """What an operator is told."""
    looked = cos_ray("status", "--json", "--port", str(service.port))
    assert looked.returncode == 0, looked.stderr
    shown: dict[str, object] = json.loads(looked.stdout)
    return shown


async def until_nobody_is_awake(service: RunningService) -> None:
    """Wait until all entities rest."""

    async def wait() -> None:
        while int((await asyncio.to_thread(status, service))["live_entities"]):
            await asyncio.sleep(0.5)

    await asyncio.wait_for(wait(), 60)
