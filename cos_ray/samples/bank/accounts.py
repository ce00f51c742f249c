"""
The rules of the bank, in two plain functions.

`handle_command` decides which events a command leads to; `handle_event` says what an account is
after an event. Neither reads a clock, a file or a network, and neither changes what it is given:
the service may call them again at any time and must get the same answer.
"""

from __future__ import annotations

from typing import TypeAlias

import grpc
from typing_extensions import assert_never

from cos_ray.samples.bank.money import money
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    Account,
    AccountClosed,
    AccountOpened,
    CloseAccount,
    Deposit,
    MoneyDeposited,
    MoneyWithdrawn,
    OpenAccount,
    Withdraw,
)

Command: TypeAlias = OpenAccount | Deposit | Withdraw | CloseAccount
COMMANDS: tuple[type[Command], ...] = (OpenAccount, Deposit, Withdraw, CloseAccount)

Event: TypeAlias = AccountOpened | MoneyDeposited | MoneyWithdrawn | AccountClosed
EVENTS: tuple[type[Event], ...] = (AccountOpened, MoneyDeposited, MoneyWithdrawn, AccountClosed)

BALANCE_LIMIT = 1_000_000_000_00
"""The most an account can hold, in cents."""


class Refusal(Exception):
    """The rules do not allow a command. The client gets the code and, word for word, the reason."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def handle_command(command: Command, account: Account | None) -> list[Event]:
    """
    Decide which events the command leads to; `account` is None before the first event.

    Raises Refusal. Nothing has happened then, and nothing is stored.
    """
    if isinstance(command, OpenAccount):
        return _open(command, account)
    if account is None:
        raise Refusal(grpc.StatusCode.NOT_FOUND, "there is no such account")
    if not account.is_open:
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the account is closed")
    match command:
        case Deposit():
            return _deposit(command, account)
        case Withdraw():
            return _withdraw(command, account)
        case CloseAccount():
            return _close(account)
        case unreachable:
            assert_never(unreachable)


def handle_event(event: Event, account: Account | None) -> Account:
    """Say what the account is after the event. Facts are not judged: no event is refused."""
    after = Account()
    if account is not None:
        after.CopyFrom(account)
    match event:
        case AccountOpened():
            after.owner, after.is_open = event.owner, True
        case MoneyDeposited():
            after.balance += event.amount
        case MoneyWithdrawn():
            after.balance -= event.amount
        case AccountClosed():
            after.is_open = False
        case unreachable:
            assert_never(unreachable)
    return after


def _open(command: OpenAccount, account: Account | None) -> list[Event]:
    if account is not None and account.is_open:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"the account is open already, for {account.owner}")
    if account is not None:
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the account is closed")
    if not command.owner.strip():
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "an account needs an owner")
    if command.opening_balance < 0:
        amount = money(command.opening_balance)
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"cannot open an account with {amount}")
    opened = AccountOpened(owner=command.owner)
    if command.opening_balance == 0:
        return [opened]
    # One command may lead to several events: they are stored together, or not at all.
    paid_in = Deposit(amount=command.opening_balance)
    return [opened, *_deposit(paid_in, handle_event(opened, None))]


def _deposit(command: Deposit, account: Account) -> list[Event]:
    _check_positive(command.amount)
    if account.balance + command.amount > BALANCE_LIMIT:
        reason = f"cannot deposit {money(command.amount)}: an account holds at most {money(BALANCE_LIMIT)}"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, reason)
    return [MoneyDeposited(amount=command.amount)]


def _withdraw(command: Withdraw, account: Account) -> list[Event]:
    _check_positive(command.amount)
    if command.amount > account.balance:
        reason = f"cannot withdraw {money(command.amount)}: the balance is {money(account.balance)}"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, reason)
    return [MoneyWithdrawn(amount=command.amount)]


def _close(account: Account) -> list[Event]:
    if account.balance != 0:
        reason = f"cannot close the account: the balance is {money(account.balance)}"
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, reason)
    return [AccountClosed()]


def _check_positive(amount: int) -> None:
    if amount <= 0:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"the amount must be positive, not {money(amount)}")
