"""Two releases of a service, each with a read side of the same name, on one real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Owner, ReadSideId, ReleaseId, Shard
from cos_ray.domain.read_sides import ShardState
from cos_ray.domain.sharding import shard_of
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import Attempt, RecordingReadHandler
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, until
from tests.support.tcp_proxy import TcpProxy

READ_SIDE = ReadSideId("watch")
QUICK = Backoff(timedelta(milliseconds=100), timedelta(milliseconds=100))
FOR_EVER = DeliveryPolicy(waits=QUICK)
A = EntityId("a")
_lives = count(1)


class Releases:
    """The processes of several releases, and what they show their handlers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.shown: list[tuple[str, int]] = []
        """Which release showed which revision of the entity, in order."""
        self.gate = asyncio.Event()
        self.gate.set()
        """Where deliveries of the old release hang while it is not set."""

    @asynccontextmanager
    async def running(
        self,
        release: str,
        refused: int | None = None,
        policy: DeliveryPolicy = FOR_EVER,
        database: Database | None = None,
    ) -> AsyncIterator[ReadSide]:
        async def see(attempt: Attempt) -> None:
            self.shown.append((release, attempt.revision))
            if release == "old":
                await self.gate.wait()
            if attempt.revision == refused:
                raise DeliveryFailed("not now")

        journal = PostgresJournal(database or self._database)
        opened = PostgresReadSideStores(database or self._database)
        await journal.open()
        await opened.open()
        shards = [Shard(number) for number in range(SHARDS)]
        settings = ReadSideSettings(
            READ_SIDE, policy=policy, poll=timedelta(milliseconds=50), drain=timedelta(seconds=1)
        )
        stores = Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters)
        owner = Owner(f"{release} {next(_lives)}")
        read_side = ReadSide(
            settings,
            shards,
            shards,
            owner,
            ReleaseId(release),
            stores,
            RecordingReadHandler(see),
            SystemClock(),
        )
        run = asyncio.ensure_future(read_side.run())
        try:
            yield read_side
        finally:
            await read_side.stop()
            await run
            await opened.close()
            await journal.close()

    async def has_shown(self, release: str, revision: int) -> None:
        await until(lambda: _true((release, revision) in self.shown))

    def revisions(self) -> list[int]:
        return [revision for _, revision in self.shown]


async def _true(condition: bool) -> bool:
    return condition


async def all_are(read_side: ReadSide, state: ShardState) -> None:
    await until(lambda: _true(all(status.state is state for status in read_side.status())))


async def write(journal: PostgresJournal, first: int, last: int) -> None:
    """Give the entity these revisions."""
    for revision in range(first, last + 1):
        await journal.append(append_of(A, revision - 1))


async def test_an_older_event_is_never_shown_after_newer_ones(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    await write(postgres_journal, 1, 2)
    async with releases.running("old", refused=2):
        await releases.has_shown("old", 2)
        async with releases.running("new") as new:
            await write(postgres_journal, 3, 5)
            await all_are(new, ShardState.RUNNING)
            await releases.has_shown("new", 5)
            handed_over = releases.shown.index(("new", 2))
            # The old one is refused no more: it does not try.
            assert {release for release, _ in releases.shown[handed_over:]} == {"new"}
            assert releases.revisions() == sorted(releases.revisions())


async def test_the_newer_release_begins_when_what_was_under_way_has_ended(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    await write(postgres_journal, 1, 3)
    shard = shard_of(A, SHARDS)
    async with releases.running("old") as old:
        await releases.has_shown("old", 3)
        releases.gate.clear()
        await write(postgres_journal, 4, 4)
        await releases.has_shown("old", 4)
        async with releases.running("new") as new:
            # All others are handed over: this one was asked for, too.
            await until(
                lambda: _true(
                    all(
                        status.state is ShardState.RUNNING for status in new.status() if status.shard != shard
                    )
                )
            )
            assert new.status()[shard].state is ShardState.ELSEWHERE
            releases.gate.set()
            await all_are(new, ShardState.RUNNING)
            await write(postgres_journal, 5, 5)
            await releases.has_shown("new", 5)
            assert releases.shown[-2:] == [("old", 4), ("new", 5)]
            await all_are(old, ShardState.ELSEWHERE)


async def test_an_older_release_starting_again_takes_nothing_until_the_newer_one_is_gone(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    async with releases.running("old") as old:
        await all_are(old, ShardState.RUNNING)
        async with releases.running("new") as new:
            await all_are(new, ShardState.RUNNING)
            async with releases.running("old") as again:
                await all_are(again, ShardState.ELSEWHERE)
                for revision in range(1, 31):
                    await write(postgres_journal, revision, revision)
                    await releases.has_shown("new", revision)
                assert {release for release, _ in releases.shown} == {"new"}
                await all_are(new, ShardState.RUNNING)
        await write(postgres_journal, 31, 31)
        await releases.has_shown("old", 31)


async def test_the_shards_of_a_newer_release_that_is_cut_off_go_back_to_the_older_one(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    async with releases.running("old") as old, TcpProxy(database.port) as proxy:
        await all_are(old, ShardState.RUNNING)
        async with releases.running("new", database=replace(database, port=proxy.port)) as new:
            await all_are(new, ShardState.RUNNING)
            proxy.refuses = True
            proxy.cut_all()
            await all_are(old, ShardState.RUNNING)
            await write(postgres_journal, 1, 2)
            await releases.has_shown("old", 2)
            proxy.refuses = False
            # What is cut off may not know yet that it has lost them.
            await all_are(old, ShardState.ELSEWHERE)
            await all_are(new, ShardState.RUNNING)
            await write(postgres_journal, 3, 3)
            await releases.has_shown("new", 3)
            assert releases.revisions() == sorted(releases.revisions())


async def test_one_that_has_lost_the_shard_sets_nothing_aside_and_lets_go(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    await write(postgres_journal, 1, 1)
    policy = DeliveryPolicy(retries=0, last_resort=LastResort.PARK)
    releases.gate.clear()
    async with releases.running("old", refused=1, policy=policy) as old:
        await releases.has_shown("old", 1)
        with connected(database) as connection:
            connection.execute("update cos_read_side_claims set owner = 'another', generation = 1000")
            releases.gate.set()
            await until(lambda: _true(old.status()[shard_of(A, SHARDS)].state is ShardState.ELSEWHERE))
            assert connection.execute("select * from cos_dead_letters").fetchall() == []


async def test_a_version_that_hands_nothing_over_is_waited_for(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    """Before there were hand-overs, a claim was renewed by its owner's name alone."""
    releases = Releases(database)
    await write(postgres_journal, 1, 1)
    with connected(database) as connection:
        connection.execute(
            "insert into cos_read_side_claims (read_side, shard, owner, renewed_at)"
            " select %s, s, 'before', clock_timestamp() from generate_series(0, 3) s",
            [READ_SIDE],
        )
        async with releases.running("new") as new:
            asked = "select count(*) from cos_read_side_claims where heir is not null"
            await until(lambda: _true(connection.execute(asked).fetchall() == [(SHARDS,)]))
            connection.execute(
                "update cos_read_side_claims set renewed_at = clock_timestamp() where owner = 'before'"
            )
            await all_are(new, ShardState.ELSEWHERE)
            assert releases.shown == []
            # It ends, and gives up what it has.
            connection.execute("delete from cos_read_side_claims where owner = 'before'")
            await releases.has_shown("new", 1)


async def test_a_version_that_takes_by_force_is_given_way_to(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    releases = Releases(database)
    async with releases.running("new") as new:
        await all_are(new, ShardState.RUNNING)
        with connected(database) as connection:
            connection.execute(
                "update cos_read_side_claims set owner = 'before', renewed_at = clock_timestamp()"
            )
        await all_are(new, ShardState.ELSEWHERE)
