"""
A bank whose processes are killed and frozen at random, and the check of its books afterwards.

CHAOS_SECONDS says how long (15), CHAOS_SEED repeats a run's choices (not its timing).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import psycopg
import pytest
from google.protobuf.any import unpack_as

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.protocol.codec import envelope_from_bytes
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.samples.bank.accounts import EVENTS, handle_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    Account,
    OpenAccount,
)
from cos_ray.samples.bank.read_handler import Balance, read_balances
from cos_ray.samples.bank.unpacking import unpack
from cos_ray.testing.history import faults_of_calls
from tests.chaos.teller import Teller
from tests.support.running_ray import live_actors
from tests.support.running_service import BankHandlers, RunningService, eventually

ACCOUNTS = [EntityId(f"account-{number}") for number in range(12)]
CLIENTS = 24

OFTEN_AND_SELDOM = {
    # Entities move all the while: who has lost its process goes on in a shard host, and soon gets another.
    "auto": (
        "entity:",
        "entity:",
        "entity:",
        "shard-host:",
        "shard-coordinator",
        "process-coordinator",
        "journal:",
        "read-side:",
        "ingress",
        "postgres",
    ),
    "dedicated": ("entity:", "entity:", "entity:", "journal:", "read-side:", "ingress", "postgres"),
    "sharded": (
        "shard-host:",
        "shard-host:",
        "shard-coordinator",
        "journal:",
        "read-side:",
        "ingress",
        "postgres",
    ),
}
"""Whom a fault may hit, by placement."""


@pytest.fixture(params=sorted(OFTEN_AND_SELDOM))
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RunningService, BankHandlers]]:
    """The service with the bank's handlers, started."""
    handlers = BankHandlers(tmp_path)
    settings = {**handlers.settings, "COS_ENTITY_PLACEMENT": request.param, "COS_SHARD_ACTORS": "2"}
    service = RunningService(tmp_path / "data", settings)
    try:
        service.start()
        yield service, handlers
    finally:
        service.end()
        handlers.stop()


@pytest.mark.timeout(0)
async def test_whatever_is_killed_or_frozen_the_books_are_right(
    bank: tuple[RunningService, BankHandlers], seconds: float, seed: int
) -> None:
    service, handlers = bank
    chance = random.Random(seed)
    async with grpc.aio.insecure_channel(service.address) as channel:
        teller = Teller(channel, ACCOUNTS)
        for account in ACCOUNTS:
            await teller.process(account, OpenAccount(owner=account))
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(teller.run(random.Random(chance.random()), stop)) for _ in range(CLIENTS)
        ]
        hit = await make_faults(service, chance, seconds)
        stop.set()
        await asyncio.gather(*clients)
        # All is well again without anyone's help.
        for account in ACCOUNTS:
            await teller.until_it_works(account)
    history = read_journal(service)
    endings = Counter(call.ending.name for call in teller.calls)
    print(f"faults {dict(hit)}, calls {dict(endings)}, {len(history)} events")
    assert faults_of_calls(history, teller.calls) == []
    books = balances_in(history)
    eventually(lambda: read_balances(handlers.balances) == books, within=40)
    assert teller.dishonest == []


async def make_faults(service: RunningService, chance: random.Random, seconds: float) -> Counter[str]:
    """Kill a process now and then, or freeze it for a while, for so long; how many of each kind."""
    victims = OFTEN_AND_SELDOM[service.environment["COS_ENTITY_PLACEMENT"]]
    hit: Counter[str] = Counter()
    until = time.monotonic() + seconds
    asleep: list[asyncio.Task[None]] = []
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        kind = chance.choice(victims)
        pids = await asyncio.to_thread(pids_of, kind, service)
        if not pids:
            continue
        pid = chance.choice(pids)
        if kind != "postgres" and chance.random() < 0.2:
            asleep.append(asyncio.create_task(freeze(pid, chance.uniform(0.5, 8.0))))
            hit[f"{kind} frozen"] += 1
        elif signal_to(pid, signal.SIGKILL):
            hit[kind] += 1
    await asyncio.gather(*asleep)
    return hit


async def freeze(pid: int, seconds: float) -> None:
    """Stop a process and let it go on later."""
    if signal_to(pid, signal.SIGSTOP):
        try:
            await asyncio.sleep(seconds)
        finally:
            signal_to(pid, signal.SIGCONT)


def signal_to(pid: int, number: signal.Signals) -> bool:
    """Whether the process was still there to be told."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def pids_of(kind: str, service: RunningService) -> list[int]:
    """The processes of a kind, in an order that does not depend on their ids."""
    if kind == "postgres":
        children = psutil.Process(service.pid).children()
        return [child.pid for child in children if child.name() == "postgres"]
    try:
        actors = live_actors(service.dashboard, token=service.ray_token)
    except Exception:  # noqa: BLE001 - the dashboard may be busy; then nobody dies this time
        return []
    if kind == "ingress":
        return [actor.pid for actor in actors if actor.kind.startswith("ServeReplica")]
    return [
        actor.pid for actor in sorted(actors, key=lambda actor: actor.name) if actor.name.startswith(kind)
    ]


def read_journal(service: RunningService) -> list[JournaledEvent]:
    """All that is stored."""
    with psycopg.connect(service.database_url) as connection:
        rows = connection.execute(
            "select ordering, sequence_number, event_payload from event_journal order by ordering"
        ).fetchall()
    return [
        JournaledEvent(Offset(ordering), envelope_from_bytes(Revision(number), payload))
        for ordering, number, payload in rows
    ]


def balances_in(history: list[JournaledEvent]) -> list[Balance]:
    """The accounts as their events add up, each state on the way compared with the one stored."""
    accounts: dict[str, Account] = {}
    revisions: dict[str, int] = {}
    for journaled in history:
        envelope = journaled.envelope
        id_ = envelope.meta.entity_id
        stored = EventWrapper()
        stored.event.MergeFromString(envelope.event)
        stored.resulting_state.MergeFromString(envelope.resulting_state)
        accounts[id_] = handle_event(unpack(stored.event, EVENTS), accounts.get(id_))
        assert accounts[id_] == unpack_as(stored.resulting_state, Account), journaled
        assert accounts[id_].balance >= 0
        revisions[id_] = envelope.meta.revision
    return sorted(
        (
            Balance(id_, each.owner, each.balance, each.is_open, revisions[id_])
            for id_, each in accounts.items()
        ),
        key=lambda balance: balance.account_id,
    )
