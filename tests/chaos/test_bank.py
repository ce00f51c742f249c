"""
A bank whose processes are killed at random, and the check of its books afterwards.

CHAOS_SECONDS says how long (15), CHAOS_SEED repeats a run's choices (not its timing).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import grpc
import grpc.aio
import psutil
import psycopg
import pytest
from google.protobuf.any import pack, unpack_as

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.protocol.codec import envelope_from_bytes
from cos_ray.protocol.codec import pack as packed
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.accounts import EVENTS, Command, handle_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    Account,
    AccountOpened,
    Deposit,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    Withdraw,
)
from cos_ray.samples.bank.read_handler import Balance, read_balances
from cos_ray.samples.bank.unpacking import unpack
from cos_ray.testing.history import Call, Ending, faults_of_calls
from tests.running_ray import live_actors
from tests.running_service import BankHandlers, RunningService, eventually

ACCOUNTS = [EntityId(f"account-{number}") for number in range(12)]
CLIENTS = 24

MAYBE = {grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
"""How a command may end that may have been stored; UNAVAILABLE also when it is the ingress that died."""

DENIED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND}

VICTIMS = ("entity:", "entity:", "entity:", "journal:", "read-side:", "ingress", "postgres")


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[RunningService, BankHandlers]]:
    """The service with the bank's handlers, started."""
    handlers = BankHandlers(tmp_path)
    service = RunningService(tmp_path / "data", handlers.settings)
    try:
        service.start()
        yield service, handlers
    finally:
        service.end()
        handlers.stop()


@pytest.mark.timeout(0)
async def test_whatever_is_killed_the_books_are_right(
    bank: tuple[RunningService, BankHandlers], seconds: float, seed: int
) -> None:
    service, handlers = bank
    chance = random.Random(seed)
    async with grpc.aio.insecure_channel(service.address) as channel:
        teller = Teller(channel)
        for account in ACCOUNTS:
            await teller.process(account, OpenAccount(owner=account))
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(teller.run(random.Random(chance.random()), stop)) for _ in range(CLIENTS)
        ]
        killed = await kill_at_random(service, chance, seconds)
        stop.set()
        await asyncio.gather(*clients)
        # All is well again without anyone's help.
        for account in ACCOUNTS:
            await teller.until_it_works(account)
    assert teller.dishonest == []
    history = read_journal(service)
    print(f"killed {killed}, {len(teller.calls)} calls, {len(history)} events")
    assert faults_of_calls(history, teller.calls) == []
    books = balances_in(history)
    eventually(lambda: read_balances(handlers.balances) == books, within=40)


async def kill_at_random(service: RunningService, chance: random.Random, seconds: float) -> dict[str, int]:
    """Kill a process now and then, for so long; how many of each kind."""
    killed = dict.fromkeys(VICTIMS, 0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        kind = chance.choice(VICTIMS)
        pids = await asyncio.to_thread(pids_of, kind, service)
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed[kind] += 1
    return killed


def pids_of(kind: str, service: RunningService) -> list[int]:
    """The processes of a kind, in an order that does not depend on their ids."""
    if kind == "postgres":
        children = psutil.Process(service.pid).children()
        return [child.pid for child in children if child.name() == "postgres"]
    try:
        actors = live_actors(service.dashboard)
    except Exception:  # noqa: BLE001 - the dashboard may be busy; then nobody dies this time
        return []
    if kind == "ingress":
        return [actor.pid for actor in actors if actor.kind.startswith("ServeReplica")]
    return [
        actor.pid for actor in sorted(actors, key=lambda actor: actor.name) if actor.name.startswith(kind)
    ]


class Teller:
    """Sends commands of which no two are alike, and writes down what comes of them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.calls: list[Call] = []
        self.dishonest: list[str] = []
        self._service = ChiefOfStateServiceStub(channel)
        self._amounts = count(1)

    async def run(self, chance: random.Random, stop: asyncio.Event) -> None:
        """Go on until told to stop."""
        while not stop.is_set():
            account = chance.choice(ACCOUNTS)
            kind = chance.random()
            if kind < 0.1:
                call = await self.look(account)
            elif kind < 0.6:
                call = await self.process(account, Deposit(amount=next(self._amounts)))
            else:
                call = await self.process(account, Withdraw(amount=next(self._amounts)))
            if call is None or call.ending is Ending.UNKNOWN:
                await asyncio.sleep(0.05)

    async def process(self, account: EntityId, command: Command) -> Call:
        """Send one command."""
        request = ProcessCommandRequest(entity_id=account, command=pack(command))
        began = time.monotonic()
        try:
            reply = await self._service.ProcessCommand(request, timeout=10)
            answer = (Ending.DONE, Revision(reply.meta.revision_number), packed(reply.state))
        except grpc.aio.AioRpcError as error:
            answer = (self._ending(error), Revision(0), None)
        call = Call(account, (_event_of(command),), began, time.monotonic(), *answer)
        self.calls.append(call)
        return call

    async def look(self, account: EntityId) -> Call | None:
        """Ask for the state; None if nobody answers."""
        began = time.monotonic()
        try:
            reply = await self._service.GetState(GetStateRequest(entity_id=account), timeout=10)
        except grpc.aio.AioRpcError as error:
            self._ending(error)
            return None
        revision, state = Revision(reply.meta.revision_number), packed(reply.state)
        self.calls.append(Call(account, (), began, time.monotonic(), Ending.DONE, revision, state))
        return self.calls[-1]

    async def until_it_works(self, account: EntityId) -> None:
        """Pay in until it is acknowledged."""
        until = time.monotonic() + 40
        while (await self.process(account, Deposit(amount=next(self._amounts)))).ending is not Ending.DONE:
            assert time.monotonic() < until, f"{account} does not come back"
            await asyncio.sleep(0.1)

    def _ending(self, error: grpc.aio.AioRpcError) -> Ending:
        if error.code() not in MAYBE | DENIED:
            self.dishonest.append(f"{error.code().name}: {error.details()}")
        return Ending.DENIED if error.code() in DENIED else Ending.UNKNOWN


def _event_of(command: Command) -> bytes:
    """What a command leads to, if to anything."""
    match command:
        case OpenAccount():
            event = AccountOpened(owner=command.owner)
        case Deposit():
            event = MoneyDeposited(amount=command.amount)
        case _:
            event = MoneyWithdrawn(amount=command.amount)
    return packed(pack(event))


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
