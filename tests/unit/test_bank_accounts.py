"""The rules of the sample bank."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any import pack
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.samples.bank.accounts import (
    BALANCE_LIMIT,
    Command,
    Event,
    Refusal,
    handle_command,
    handle_event,
)
from cos_ray.samples.bank.money import cents, money
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
from cos_ray.samples.bank.unpacking import NotUnderstood, unpack

ADA = Account(owner="Ada", balance=20_00, is_open=True)
EMPTY = Account(owner="Ada", is_open=True)
CLOSED = Account(owner="Ada")


def test_an_account_is_opened_for_its_owner() -> None:
    assert handle_command(OpenAccount(owner="Ada"), None) == [AccountOpened(owner="Ada")]


def test_an_opening_balance_is_a_deposit_of_its_own() -> None:
    events = handle_command(OpenAccount(owner="Ada", opening_balance=20_00), None)
    assert events == [AccountOpened(owner="Ada"), MoneyDeposited(amount=20_00)]
    assert state_after(events) == ADA


def test_money_goes_in_and_out_to_the_last_cent() -> None:
    assert handle_command(Deposit(amount=1), ADA) == [MoneyDeposited(amount=1)]
    assert handle_command(Withdraw(amount=20_00), ADA) == [MoneyWithdrawn(amount=20_00)]


def test_an_empty_account_can_be_closed() -> None:
    events = handle_command(CloseAccount(), EMPTY)
    assert events == [AccountClosed()]
    assert handle_event(events[0], EMPTY) == CLOSED


@pytest.mark.parametrize(
    ("command", "account", "code", "reason"),
    [
        (OpenAccount(owner="Bob"), ADA, "ALREADY_EXISTS", "the account is open already, for Ada"),
        (OpenAccount(owner="Bob"), CLOSED, "FAILED_PRECONDITION", "the account is closed"),
        (OpenAccount(owner="  "), None, "INVALID_ARGUMENT", "an account needs an owner"),
        (
            OpenAccount(owner="Bob", opening_balance=-1),
            None,
            "INVALID_ARGUMENT",
            "cannot open an account with -0.01",
        ),
        (Deposit(amount=1), None, "NOT_FOUND", "there is no such account"),
        (Withdraw(amount=1), None, "NOT_FOUND", "there is no such account"),
        (CloseAccount(), None, "NOT_FOUND", "there is no such account"),
        (Deposit(amount=1), CLOSED, "FAILED_PRECONDITION", "the account is closed"),
        (Withdraw(amount=1), CLOSED, "FAILED_PRECONDITION", "the account is closed"),
        (CloseAccount(), CLOSED, "FAILED_PRECONDITION", "the account is closed"),
        (Deposit(amount=0), ADA, "INVALID_ARGUMENT", "the amount must be positive, not 0.00"),
        (Withdraw(amount=-5_00), ADA, "INVALID_ARGUMENT", "the amount must be positive, not -5.00"),
        (
            Withdraw(amount=50_00),
            ADA,
            "INVALID_ARGUMENT",
            "cannot withdraw 50.00: the balance is 20.00",
        ),
        (
            Deposit(amount=2**63 - 1),
            ADA,
            "INVALID_ARGUMENT",
            "cannot deposit 92233720368547758.07: an account holds at most 1000000000.00",
        ),
        (CloseAccount(), ADA, "FAILED_PRECONDITION", "cannot close the account: the balance is 20.00"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_a_reason(
    command: Command, account: Account | None, code: str, reason: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        handle_command(command, account)
    assert (refusal.value.code, refusal.value.reason) == (grpc.StatusCode[code], reason)


INT64 = st.integers(-(2**63), 2**63 - 1)
AMOUNTS = st.integers(1, 100_00) | INT64
COMMANDS = (
    st.builds(OpenAccount, owner=st.text(max_size=3), opening_balance=st.just(0) | AMOUNTS)
    | st.builds(Deposit, amount=AMOUNTS)
    | st.builds(Withdraw, amount=AMOUNTS)
    | st.builds(CloseAccount)
)


@given(st.lists(COMMANDS, max_size=30).map(lambda later: [OpenAccount(owner="Ada"), *later]))
def test_a_balance_is_the_sum_of_the_events_and_never_negative(commands: list[Command]) -> None:
    history: list[Event] = []
    account: Account | None = None
    for command in commands:
        try:
            events = handle_command(command, account)
        except Refusal:
            continue
        for event in events:
            account = handle_event(event, account)
            assert 0 <= account.balance <= BALANCE_LIMIT
        history += events
        assert account is not None
        assert account.balance == sum(worth(event) for event in history)
        assert account.is_open or account.balance == 0


@given(COMMANDS, st.sampled_from([None, ADA, EMPTY, CLOSED]))
def test_the_rules_change_nothing_they_are_given_and_answer_the_same_again(
    command: Command, account: Account | None
) -> None:
    before = None if account is None else account.SerializeToString()
    assert outcome(command, account) == outcome(command, account)
    assert (None if account is None else account.SerializeToString()) == before


@given(INT64)
def test_an_amount_written_is_read_as_the_same(amount: int) -> None:
    assert cents(money(amount)) == amount


@pytest.mark.parametrize(("text", "amount"), [("20", 20_00), ("20.5", 20_50), ("0.07", 7), ("1e2", 100_00)])
def test_amounts_are_read_as_people_write_them(text: str, amount: int) -> None:
    assert cents(text) == amount


@pytest.mark.parametrize("text", ["", "ten", "1.005", "nan", "inf", "1,50"])
def test_what_is_no_amount_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount of money|fractions of a cent"):
        cents(text)


def test_a_message_comes_out_of_its_envelope_as_it_went_in() -> None:
    assert unpack(pack(Deposit(amount=7)), [Withdraw, Deposit]) == Deposit(amount=7)


def test_a_message_of_another_type_or_none_is_not_understood() -> None:
    with pytest.raises(NotUnderstood, match=r"unknown message type 'type.googleapis.com/bank.v1.Deposit'"):
        unpack(pack(Deposit(amount=7)), [Withdraw])
    broken = pack(Deposit())
    broken.value = b"\xff"
    with pytest.raises(NotUnderstood, match=r"malformed bank.v1.Deposit"):
        unpack(broken, [Deposit])


def state_after(events: list[Event]) -> Account | None:
    account = None
    for event in events:
        account = handle_event(event, account)
    return account


def worth(event: Event) -> int:
    match event:
        case MoneyDeposited():
            return event.amount
        case MoneyWithdrawn():
            return -event.amount
        case _:
            return 0


def outcome(command: Command, account: Account | None) -> list[Event] | tuple[grpc.StatusCode, str]:
    try:
        return handle_command(command, account)
    except Refusal as refusal:
        return refusal.code, refusal.reason
