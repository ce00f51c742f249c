"""
The whole story in one terminal: what `cos-ray demo` shows, and checks while it shows it.

Nothing here is staged. The service runs in processes of its own, on a real Postgres, and is
spoken to as any client would; the process that is killed is an account's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import grpc
import grpc.aio
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress as Bars
from rich.table import Table

from cos_ray.cli.child_process import ChildFailed
from cos_ray.cli.demo_service import DemoService
from cos_ray.cli.progress import Progress
from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.money import money
from cos_ray.samples.bank.read_handler import Balance, read_balances

OWNERS = ("Ada", "Barbara", "Edsger", "Grace", "Katherine", "Ken", "Leslie", "Margaret")
DEPOSITS = 12
"""How many deposits each account gets, all accounts at once."""


class NotAsPromised(Exception):
    """The service did not do what this story tells."""


def run() -> int:
    """Tell the story; the exit status is 0 only if every step showed what it should."""
    console = Console(highlight=False)
    story = Story(console, Progress())
    try:
        with ExitStack() as running:
            scratch = tempfile.TemporaryDirectory(prefix="cos-ray-demo-", ignore_cleanup_errors=True)
            asyncio.run(story.told(Path(running.enter_context(scratch)), running))
    except (NotAsPromised, ChildFailed, BankError) as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped")
        return 130
    return 0


class Story:
    """Five chapters about a small bank."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress

    async def told(self, directory: Path, running: ExitStack) -> None:
        """Tell it, in this directory; what it starts is stopped by `running`."""
        begun = monotonic()
        self._chapter("1", "A bank opens", "PostgreSQL, Ray, the ingress and two handlers start.")
        service = DemoService(directory, self._progress)
        running.callback(service.stop_all)
        service.start_handlers()
        service.start()
        async with grpc.aio.insecure_channel(service.address) as channel:
            bank = Bank(channel, timeout=60)
            answered = await self._commands(bank)
            await self._refusal(bank)
            before = await self._states(bank, answered)
            await self._read_side(before, service.balances)
            before = await self._death(bank, service, before)
        await self._restart(service, before)
        service.stop_all()
        self._console.print(
            Panel(
                f"Every step did what it should, in {monotonic() - begun:.0f} s. Nothing is left running.\n"
                "Your own application next: see “A first application” in README.md.",
                border_style="green",
            )
        )

    async def _commands(self, bank: Bank) -> list[Statement]:
        self._chapter(
            "2",
            "Commands",
            "Each account is an entity: a Ray actor, a process.",
        )
        begun = monotonic()
        with Bars(console=self._console, transient=True) as bars:
            task = bars.add_task("commands", total=len(OWNERS) * (1 + DEPOSITS))

            async def use(owner: str) -> Statement:
                account = _account_of(owner)
                statement = await bank.open(account, owner, opening_balance=10_000)
                bars.advance(task)
                for _ in range(DEPOSITS):
                    statement = await bank.deposit(account, random.randint(1, 50_000))
                    bars.advance(task)
                return statement

            answered = await asyncio.gather(*(use(owner) for owner in OWNERS))
        count, took = len(OWNERS) * (1 + DEPOSITS), monotonic() - begun
        self._shown(
            f"{count} commands to {len(OWNERS)} accounts in {took:.1f} s, starting their processes included"
        )
        return list(answered)

    async def _refusal(self, bank: Bank) -> None:
        try:
            await bank.withdraw(_account_of("Ada"), 100_000_000)
        except BankError as error:
            _must(
                error.code is grpc.StatusCode.INVALID_ARGUMENT, f"an overdraft was answered {error.code.name}"
            )
            self._shown(f"an overdraft is refused by the bank's rules: {error.code.name}, “{error}”")
        else:
            raise NotAsPromised("an overdraft was accepted")

    async def _states(self, bank: Bank, answered: list[Statement]) -> list[Statement]:
        states = await _statements(bank)
        _must(states == answered, "a state is not what the last command was answered with")
        self._console.print(_table("States, as the service answers", states))
        return states

    async def _read_side(self, states: Sequence[Statement], balances: Path) -> None:
        self._chapter("3", "Events", "A read side was told of each, in order, and kept a table.")
        rows = await _eventually(
            lambda: _rows(balances),
            lambda rows: _balances(rows) == _balances(states),
            "the read side to catch up",
        )
        self._console.print(_table("Balances, as the read side has them", rows))

    async def _death(self, bank: Bank, service: DemoService, before: list[Statement]) -> list[Statement]:
        self._chapter("4", "Death of a process", "Any process can be lost; the history cannot.")
        account = _account_of("Grace")
        pid = await asyncio.to_thread(service.pid_of_entity, account)
        os.kill(pid, signal.SIGKILL)
        self._shown(f"kill -9 {pid}: the process of entity:{account} is gone")
        begun = monotonic()
        after = await bank.deposit(account, 100)
        took = monotonic() - begun
        expected = {state.account_id: state for state in before}[account]
        _must(after.revision == expected.revision + 1, f"revision {after.revision} after {expected.revision}")
        _must(after.balance == expected.balance + 100, f"the balance is {money(after.balance)}")
        self._shown(
            f"the next command, {took:.1f} s later: revision {after.revision} on top of {expected.revision}, "
            f"balance {money(after.balance)}"
        )
        return await _statements(bank)

    async def _restart(self, service: DemoService, before: list[Statement]) -> None:
        self._chapter("5", "Restart", "The whole service stops, and starts again.")
        status = service.stop()
        _must(status == 0, f"the service ended with status {status}")
        service.start()
        async with grpc.aio.insecure_channel(service.address) as channel:
            after = await _statements(Bank(channel, timeout=60))
        _must(after == before, "the states differ from those before the restart")
        self._console.print(_table("The same states, from the journal", after))

    def _chapter(self, number: str, title: str, text: str) -> None:
        self._console.print(f"\n[bold cyan]{number}  {title}[/]  [dim]{text}[/]")

    def _shown(self, text: str) -> None:
        self._console.print("[green]✓[/] ", end="")
        self._console.print(text, markup=False)


def _account_of(owner: str) -> str:
    return owner.lower()


async def _statements(bank: Bank) -> list[Statement]:
    return list(await asyncio.gather(*(bank.account(_account_of(owner)) for owner in OWNERS)))


async def _rows(balances: Path) -> list[Balance]:
    return await asyncio.to_thread(read_balances, balances)


def _balances(accounts: Sequence[Statement | Balance]) -> set[tuple[str, int, int]]:
    return {(account.account_id, account.balance, account.revision) for account in accounts}


async def _eventually(
    look: Callable[[], Awaitable[list[Balance]]], is_right: Callable[[list[Balance]], bool], what: str
) -> list[Balance]:
    deadline = monotonic() + 15
    while monotonic() < deadline:
        found = await look()
        if is_right(found):
            return found
        await asyncio.sleep(0.05)
    raise NotAsPromised(f"waited 15 s for {what}")


def _must(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise NotAsPromised(otherwise)


def _table(title: str, accounts: Sequence[Statement | Balance]) -> Table:
    table = Table(title=title, title_justify="left", title_style="")
    for column in ("entity", "owner"):
        table.add_column(column)
    for column in ("balance", "revision"):
        table.add_column(column, justify="right")
    for account in sorted(accounts, key=lambda account: account.account_id):
        table.add_row(account.account_id, account.owner, money(account.balance), str(account.revision))
    return table
