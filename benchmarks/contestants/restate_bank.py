"""
The bank as a Restate virtual object: durable state by key, one writer per key, in a process of its own.

    python -m benchmarks.contestants.restate_bank PORT
"""

from __future__ import annotations

import sys
from typing import TypedDict

import restate
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

BALANCE_LIMIT = 1_000_000_000_00

bank = restate.VirtualObject("Bank")


class Account(TypedDict):
    """The state."""

    owner: str
    balance: int


@bank.handler()
async def open(context: restate.ObjectContext, command: dict[str, str]) -> Account:  # noqa: A001
    """Open the account."""
    if await context.get("account") is not None:
        raise restate.TerminalError("the account is open already", 409)
    if not command["owner"].strip():
        raise restate.TerminalError("an account needs an owner", 400)
    account = Account(owner=command["owner"], balance=0)
    context.set("account", account)
    return account


@bank.handler()
async def deposit(context: restate.ObjectContext, command: dict[str, int]) -> Account:
    """Pay in."""
    account: Account | None = await context.get("account")
    if account is None:
        raise restate.TerminalError("there is no such account", 404)
    if command["amount"] <= 0 or account["balance"] + command["amount"] > BALANCE_LIMIT:
        raise restate.TerminalError("an amount that cannot be paid in", 400)
    account["balance"] += command["amount"]
    context.set("account", account)
    return account


def main(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    # As many calls over one connection as the server likes.
    config.h2_max_concurrent_streams = 2147483647
    config.keep_alive_max_requests = 2147483647
    config.keep_alive_timeout = 2147483647
    uvloop.run(serve(restate.app([bank]), config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
