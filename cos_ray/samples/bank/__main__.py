"""The bank from the command line: its two handlers, and a client."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import typer

from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.money import cents, money
from cos_ray.samples.bank.read_handler import Balance, read_balances, serve_read_handler
from cos_ray.samples.bank.write_handler import serve_write_handler

app = typer.Typer(help="A small bank, the sample application of cos_ray.", no_args_is_help=True)
client = typer.Typer(help="Send commands to the accounts, through the service.", no_args_is_help=True)
app.add_typer(client, name="client")


def _cents(text: str) -> int:
    try:
        return cents(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)]
AccountId = Annotated[str, typer.Argument(help="Which account.", metavar="ACCOUNT")]
Amount = Annotated[int, typer.Argument(help="How much, such as 20.50.", metavar="AMOUNT", parser=_cents)]


@app.command()
def write_handler(port: Port, host: Host = "127.0.0.1") -> None:
    """Serve the rules of the bank to the service, until SIGTERM or Ctrl-C."""
    _serve(serve_write_handler(host, port))


@app.command()
def http_write_handler(port: Port, host: Host = "127.0.0.1") -> None:
    """Serve the rules over HTTP/JSON instead of gRPC, until SIGTERM or Ctrl-C."""
    # Only now: no other command needs a web server.
    from cos_ray.samples.bank.http_write_handler import serve_http_write_handler

    _serve(serve_http_write_handler(host, port))


@app.command()
def read_handler(
    port: Port,
    database: Annotated[Path, typer.Option(help="The SQLite file with the table of balances.")],
    host: Host = "127.0.0.1",
) -> None:
    """Keep a table of all balances, until SIGTERM or Ctrl-C."""
    _serve(serve_read_handler(host, port, database))


@app.command()
def balances(
    database: Annotated[Path, typer.Option(help="The SQLite file that the read handler keeps.")],
) -> None:
    """Print the table of balances."""
    try:
        rows = read_balances(database)
    except sqlite3.Error as error:
        raise SystemExit(f"cannot read {database}: {error}") from error
    for row in rows:
        print(_line(row))


@client.callback()
def service(
    context: typer.Context,
    address: Annotated[str, typer.Option(help="Where the service listens.")] = "127.0.0.1:9000",
) -> None:
    """Remember where the service is, for the command that follows."""
    context.obj = address


@client.command("open")
def open_(
    context: typer.Context,
    account: AccountId,
    owner: Annotated[str, typer.Option(help="Whose account it is.")],
    balance: Annotated[int, typer.Option(help="Paid in at once.", metavar="AMOUNT", parser=_cents)] = 0,
) -> None:
    """Open an account."""
    _show(context, lambda bank: bank.open(account, owner, balance))


@client.command()
def deposit(context: typer.Context, account: AccountId, amount: Amount) -> None:
    """Pay in."""
    _show(context, lambda bank: bank.deposit(account, amount))


@client.command()
def withdraw(context: typer.Context, account: AccountId, amount: Amount) -> None:
    """Pay out."""
    _show(context, lambda bank: bank.withdraw(account, amount))


@client.command()
def close(context: typer.Context, account: AccountId) -> None:
    """Close an account for good."""
    _show(context, lambda bank: bank.close(account))


@client.command()
def show(context: typer.Context, account: AccountId) -> None:
    """Look at an account."""
    _show(context, lambda bank: bank.account(account))


def _serve(server: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(server)
    except (OSError, sqlite3.Error) as error:
        raise SystemExit(f"cannot serve: {error}") from error


def _show(context: typer.Context, ask: Callable[[Bank], Awaitable[Statement]]) -> None:
    async def answer() -> Statement:
        async with grpc.aio.insecure_channel(context.obj) as channel:
            return await ask(Bank(channel))

    try:
        statement = asyncio.run(answer())
    except BankError as error:
        raise SystemExit(f"{error.code.name}: {error}") from error
    print(_line(statement))


def _line(account: Statement | Balance) -> str:
    status = "open" if account.is_open else "closed"
    facts = (account.owner, money(account.balance), status, f"revision {account.revision}")
    return f"{account.account_id}: {', '.join(facts)}"


if __name__ == "__main__":
    app(prog_name="python -m cos_ray.samples.bank")
