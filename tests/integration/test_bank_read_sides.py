"""The bank's tables behind a read side that delivers twice, dies, and catches up."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.any import pack
from psycopg import conninfo

from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from cos_ray.domain.read_sides import Replay
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_read import python_read_handler
from cos_ray.postgres.database import Database
from cos_ray.samples.bank.accounts import handle_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import AccountOpened, MoneyDeposited, MoneyWithdrawn
from cos_ray.samples.bank.read_handler import read_balances
from cos_ray.testing.read_sides import MemoryEventSource
from tests.support.fixtures_postgres import connected
from tests.support.journal import until
from tests.support.read_side import World

ACCOUNTS, EVENTS = 7, 40


class BankSource(MemoryEventSource):
    """A journal of deposits and withdrawals."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, tuple[int, int, int]] = {}
        """Of each account: balance, paid in, paid out."""
        chance, offset = random.Random(7), 0
        states = dict.fromkeys(range(ACCOUNTS))
        for revision in range(1, EVENTS + 1):
            for number in range(ACCOUNTS):
                offset += 1
                event = (
                    AccountOpened(owner="Ada")
                    if revision == 1
                    else MoneyDeposited(amount=chance.randrange(100))
                )
                if revision % 5 == 0:
                    event = MoneyWithdrawn(amount=1)
                states[number] = account = handle_event(event, states[number])
                _balance, paid_in, paid_out = self.sums.get(f"a{number}", (0, 0, 0))
                self.sums[f"a{number}"] = (
                    account.balance,
                    paid_in + (event.amount if isinstance(event, MoneyDeposited) else 0),
                    paid_out + (event.amount if isinstance(event, MoneyWithdrawn) else 0),
                )
                meta = Meta(EntityId(f"a{number}"), Revision(revision))
                packed = [Packed(pack(message).SerializeToString()) for message in (event, account)]
                envelope = EventEnvelope(packed[0], packed[1], meta, Revision(revision))
                self._events[Shard(number % 2)].append(JournaledEvent(Offset(offset), envelope))


async def run_twice(world: World, class_: str) -> None:
    """Deliver everything, stop, and deliver it all again from the beginning."""
    from cos_ray.system.clock import SystemClock

    world.clock = SystemClock()  # type: ignore[assignment]
    world.source = BankSource()
    target = PythonEndpoint(f"cos_ray.samples.bank.{class_}")
    world.served = python_read_handler(target, timedelta(seconds=30))
    read_side = world.build(concurrency=1)
    running = asyncio.ensure_future(read_side.run())

    async def done() -> bool:
        return sum(status.deliveries for status in read_side.status()) >= ACCOUNTS * EVENTS

    async def done_twice() -> bool:
        return sum(status.deliveries for status in read_side.status()) >= 2 * ACCOUNTS * EVENTS

    await until(done)
    await read_side.obey(Replay({Shard(0): Offset(0), Shard(1): Offset(0)}))
    await until(done_twice)
    assert [status.failures for status in read_side.status()] == [0, 0]
    await read_side.stop()
    await running


async def test_the_table_in_sqlite_shows_the_newest_of_each_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_BALANCES", str(tmp_path / "balances.db"))
    world = World()
    await run_twice(world, "python_read_handler:Balances")
    rows = read_balances(tmp_path / "balances.db")
    source = world.source
    assert isinstance(source, BankSource)
    assert {row.account_id: row.balance for row in rows} == {
        id_: sums[0] for id_, sums in source.sums.items()
    }
    assert {row.revision for row in rows} == {EVENTS}


async def test_the_sums_in_postgres_count_every_event_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = database.connect_arguments()
    url = conninfo.make_conninfo(
        host=arguments["host"], port=arguments["port"], dbname=arguments["dbname"],
        user=arguments["user"], password=arguments["password"],
        options=f"-c search_path={database.search_path}".replace(" ", "\\ ").replace("-c\\ ", "-c "),
    )  # fmt: skip
    monkeypatch.setenv("BANK_DATABASE_URL", url)
    world = World()
    await run_twice(world, "postgres_read_handler:Statements")
    with connected(database) as connection:
        rows = connection.execute("select account_id, balance, paid_in, paid_out from statements").fetchall()
    source = world.source
    assert isinstance(source, BankSource)
    assert {row[0]: row[1:] for row in rows} == source.sums
