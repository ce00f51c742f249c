"""
A standby takes over that lacks the last events: nobody who reads or writes goes on as if it had them.

Offsets and revisions are given anew then, so what was read before is no measure of what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest

from cos_ray.domain.errors import Code, JournalUnavailable, OutcomeUnknown, RevisionConflict, Status
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import Append, JournaledEvent
from cos_ray.domain.read_sides import ShardState
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.subscriptions.listener import SubscriptionEnded
from cos_ray.subscriptions.subscriptions import Subscriptions, Wanted
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import RecordingReadHandler
from tests.integration.test_read_side_postgres import running
from tests.support.failover import Failover
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import TcpProxy

LOST = 120
"""Events that the standby lacks: more than the numbers that a server reserves, so that offsets come again."""

NEW = 40
"""Events that are stored after the failover: fewer, so that all lie where lost ones were."""


@dataclass
class Ground:
    """The servers, and the one address at which the service finds the one that is there."""

    servers: Failover
    proxy: TcpProxy
    journal: PostgresJournal
    """As who writes has it."""

    @property
    def database(self) -> Database:
        return replace(self.servers.primary, port=self.proxy.port)

    async def fail_over(self) -> None:
        self.proxy.refuses = True
        self.proxy.cut_all()
        await asyncio.to_thread(self.servers.fail_over)
        self.proxy.lead_to(self.servers.standby.port)
        self.proxy.refuses = False

    async def store(self, append: Append) -> Offset:
        """As an entity does: over and over until the journal says what became of it."""
        found: list[Offset] = []

        async def is_stored() -> bool:
            try:
                found.append(await self.journal.append(append))
            except (JournalUnavailable, OutcomeUnknown):
                return False
            return True

        await until(is_stored, 60)
        return found[0]


@pytest.fixture
def servers() -> Iterator[Failover]:
    with Failover() as servers:
        migrate(servers.primary)
        yield servers


@pytest.fixture
async def ground(servers: Failover) -> AsyncIterator[Ground]:
    async with TcpProxy(servers.primary.port) as proxy:
        journal = PostgresJournal(replace(servers.primary, port=proxy.port))
        await journal.open()
        yield Ground(servers, proxy, journal)
        await journal.close()


async def store_many(ground: Ground, name: str, count: int) -> list[Offset]:
    return [await ground.store(append_of(f"{name}-{number}", 0)) for number in range(count)]


def delivered(handler: RecordingReadHandler) -> set[str]:
    return {str(attempt.entity_id) for attempt in handler.attempts if attempt.entity_id.startswith("new-")}


async def test_a_read_side_is_given_every_event_that_was_stored_after_the_failover(ground: Ground) -> None:
    handler = RecordingReadHandler()
    async with running(ground.database, handler):
        await store_many(ground, "old", 20)
        await asyncio.to_thread(ground.servers.cut_off)
        lost = await store_many(ground, "lost", LOST)

        async def has_all() -> bool:
            return len(handler.attempts) >= 20 + LOST

        await until(has_all, 60)
        await ground.fail_over()
        new = await store_many(ground, "new", NEW)
        # Otherwise this shows nothing.
        assert max(new) <= max(lost)

        async def has_new() -> bool:
            return len(delivered(handler)) == NEW

        await until(has_new, 60)


async def test_what_was_read_and_is_lost_moves_no_offset_in_a_journal_that_rests(ground: Ground) -> None:
    """Nothing is stored after the failover: only the look for news, and the saves, can notice it."""
    handler = RecordingReadHandler()
    async with running(ground.database, handler) as read_side:
        kept = await store_many(ground, "old", 20)
        await asyncio.to_thread(ground.servers.cut_off)
        await store_many(ground, "lost", LOST)

        async def has_all() -> bool:
            return len(handler.attempts) >= 20 + LOST

        await until(has_all, 60)
        await ground.fail_over()

        async def is_back() -> bool:
            status = read_side.status()
            return max(each.offset for each in status) == max(kept) and all(
                each.state is ShardState.RUNNING for each in status
            )

        await until(is_back, 60)
    with psycopg.connect(**ground.servers.standby.connect_arguments()) as connection:
        rows = connection.execute("select current_offset::bigint from read_side_offsets").fetchall()
    assert max(offset for (offset,) in rows) == max(kept)


async def test_a_subscription_ends_and_says_from_where_nothing_is_missed(ground: Ground) -> None:
    subscriptions = Subscriptions(ground.journal.tail, SystemClock())
    heard: list[JournaledEvent] = []
    is_open = asyncio.Event()

    async def listen(wanted: Wanted) -> Status:
        try:
            async for event in subscriptions.events(wanted, is_open.set):
                heard.append(event)
        except SubscriptionEnded as end:
            return end.status
        raise AssertionError("it ended in good order")

    listening = asyncio.ensure_future(listen(Wanted("all")))
    await asyncio.wait_for(is_open.wait(), 60)
    kept = await store_many(ground, "old", 20)
    await asyncio.to_thread(ground.servers.cut_off)
    await store_many(ground, "lost", LOST)

    async def heard_all() -> bool:
        return len(heard) == 20 + LOST

    await until(heard_all, 60)
    await ground.fail_over()
    status = await asyncio.wait_for(listening, 60)
    assert status.code is Code.ABORTED
    assert status.trailers == (("x-cos-from-offset", str(max(kept))),)
    new = await store_many(ground, "new", NEW)
    heard.clear()
    again = asyncio.ensure_future(listen(Wanted("all", after=max(kept))))

    async def heard_new() -> bool:
        return [event.offset for event in heard] == new

    await until(heard_new, 60)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    subscriptions.close()


async def test_an_entity_that_has_gone_further_than_the_database_begins_anew_where_that_is(
    ground: Ground,
) -> None:
    await ground.store(append_of("a", 0, events=8))
    await asyncio.to_thread(ground.servers.cut_off)
    await ground.store(append_of("a", 8, events=2))
    await ground.fail_over()
    ahead = append_of("a", 10)
    with pytest.raises(RevisionConflict):
        await ground.store(ahead)
    newest = await ground.journal.newest(EntityId("a"))
    assert newest is not None
    assert newest.sequence_number == 8
    await ground.store(append_of("a", 8, events=3))
    history = await ground.journal.history(EntityId("a"), Revision(1), 100)
    assert [event.sequence_number for event in history] == list(range(1, 12))
