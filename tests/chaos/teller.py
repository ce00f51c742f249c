"""Clients of the bank who write down what they sent and what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import count

import grpc
import grpc.aio
from google.protobuf.any import pack

from cos_ray.domain.ids import EntityId, Revision
from cos_ray.protocol.codec import pack as packed
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.accounts import Command
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    AccountOpened,
    Deposit,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    Withdraw,
)
from cos_ray.testing.history import Call, Ending

MAYBE = {grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
"""How a command may end that may have been stored; UNAVAILABLE also when it is the ingress that died."""

DENIED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND}


class Teller:
    """Sends commands of which no two are alike, and writes down what comes of them."""

    patience = 10.0
    """Seconds to wait for an answer."""

    def __init__(self, channel: grpc.aio.Channel, accounts: Sequence[EntityId]) -> None:
        self.calls: list[Call] = []
        self.dishonest: list[str] = []
        self._service = ChiefOfStateServiceStub(channel)
        self._accounts = accounts
        self._amounts = count(1)

    async def run(self, chance: random.Random, stop: asyncio.Event) -> None:
        """Go on until told to stop."""
        while not stop.is_set():
            account = chance.choice(self._accounts)
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
            reply = await self._service.ProcessCommand(request, timeout=self.patience)
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
            reply = await self._service.GetState(GetStateRequest(entity_id=account), timeout=self.patience)
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
