"""
A client of the bank, for Python programs that would rather not see protobuf.

It talks to the service, never to the handlers, and knows of the service no more than two calls:
ProcessCommand and GetState.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any

from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.accounts import Command
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, CloseAccount, Deposit, OpenAccount, Withdraw
from cos_ray.samples.bank.unpacking import NotUnderstood, unpack


@dataclass(frozen=True, slots=True)
class Statement:
    """An account as of one of its revisions."""

    account_id: str
    owner: str
    balance: int
    """In cents."""
    is_open: bool
    revision: int
    """How many events the account has had."""


class BankError(Exception):
    """The bank did not do what it was asked; `reason` is meant for people, `code` for programs."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return self.reason or self.code.name


class Bank:
    """
    The accounts, by id. Amounts are in cents; every call raises BankError.

    Use it in the event loop in which the channel was opened.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: float = 30.0) -> None:
        self._service = ChiefOfStateServiceStub(channel)
        self._timeout = timeout

    async def open(self, account_id: str, owner: str, opening_balance: int = 0) -> Statement:
        """Open an account that never existed."""
        return await self._process(account_id, OpenAccount(owner=owner, opening_balance=opening_balance))

    async def deposit(self, account_id: str, amount: int) -> Statement:
        """Pay in."""
        return await self._process(account_id, Deposit(amount=amount))

    async def withdraw(self, account_id: str, amount: int) -> Statement:
        """Pay out; refused beyond the balance."""
        return await self._process(account_id, Withdraw(amount=amount))

    async def close(self, account_id: str) -> Statement:
        """Close an account for good; refused while there is money in it."""
        return await self._process(account_id, CloseAccount())

    async def account(self, account_id: str) -> Statement:
        """Look at an account: what every command answered so far has led to."""
        request = GetStateRequest(entity_id=account_id)
        with _errors_of_the_bank():
            reply = await self._service.GetState(request, timeout=self._timeout)
            return _statement(reply.state, reply.meta)

    async def _process(self, account_id: str, command: Command) -> Statement:
        request = ProcessCommandRequest(entity_id=account_id, command=pack(command))
        with _errors_of_the_bank():
            reply = await self._service.ProcessCommand(request, timeout=self._timeout)
            return _statement(reply.state, reply.meta)


def _statement(state: Any, meta: MetaData) -> Statement:
    account = unpack(state, [Account])
    return Statement(meta.entity_id, account.owner, account.balance, account.is_open, meta.revision_number)


@contextmanager
def _errors_of_the_bank() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        reason = error.details() or ""
        if error.code() is grpc.StatusCode.NOT_FOUND:
            # GetState says it with the code alone.
            reason = reason or "there is no such account"
        raise BankError(error.code(), reason) from error
    except NotUnderstood as error:
        raise BankError(grpc.StatusCode.INTERNAL, f"this is no account: {error}") from error
