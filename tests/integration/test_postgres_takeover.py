"""Going on where a Chief of State stopped: histories, revisions, offsets, and what it would find again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.errors import JournalUnavailable, StartFailed
from cos_ray.domain.ids import CommandId, EntityId, Offset, Owner, ReadSideId, ReleaseId, Shard
from cos_ray.domain.messages import Accepted, Command, EntityState, EventEnvelope, Headers, Meta, Packed
from cos_ray.domain.retention import Retention
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.domain.sharding import shard_of
from cos_ray.postgres import foreign_writers
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.inspection import inspect
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.postgres.shard_count import shards_of_database
from cos_ray.protocol.codec import pack, unpack
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper, StateWrapper
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.system.clock import SystemClock
from cos_ray.writeside.entity import Entity
from tests.support.chief_of_state import ODD_ID, ChiefOfState, left_behind, text
from tests.support.fixtures_postgres import connected
from tests.support.journal import until


class Handler:
    """A write handler: as many events as the command says, each adding to the text that is the state."""

    def __init__(self) -> None:
        self.prior: EntityState | None = None

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        self.prior = prior
        return Persist(tuple(pack(text("ours")) for _ in range(int(command))))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        return pack(text(f"ours at {meta.revision}"))


class Book:
    """A read handler that writes down what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        self.seen.append((envelope.meta.entity_id, envelope.sequence_number))


@pytest.fixture(params=[9, 16])
def old(request: pytest.FixtureRequest, empty_database: Database) -> ChiefOfState:
    return left_behind(empty_database, request.param)


@pytest.fixture
async def journal(old: ChiefOfState) -> AsyncIterator[PostgresJournal]:
    """Taken over."""
    migrate(old.database)
    journal = PostgresJournal(old.database, retention=Retention(frequency=2))
    await journal.open()
    yield journal
    await journal.close()


async def command(
    journal: PostgresJournal, shards: int, entity: str, events: int = 1, handler: Handler | None = None
) -> EntityState:
    """As the service runs it, on an entity that has just been woken."""
    entity_id = EntityId(entity)
    woken = Entity(entity_id, shard_of(entity_id, shards), handler or Handler(), journal, SystemClock())
    id_ = CommandId(f"command of {entity}")
    reply = await woken.process(Command(entity_id, Packed(str(events).encode()), id_, budget=20))
    assert isinstance(reply, Accepted)
    return reply.state


def test_the_shard_count_is_that_of_the_tags(old: ChiefOfState) -> None:
    migrate(old.database)
    assert shards_of_database(old.database, None) == old.shards
    assert shards_of_database(old.database, old.shards) == old.shards
    with pytest.raises(StartFailed, match=rf"COS_NUM_SHARDS is '25', .*allowed: {old.shards}$"):
        shards_of_database(old.database, 25)


async def test_a_shard_count_that_changes_between_two_starts_is_refused(database: Database) -> None:
    journal = PostgresJournal(database)
    await journal.open()
    shards = shards_of_database(database, 5)
    for number in range(20):
        await command(journal, shards, f"e{number}")
    await journal.close()
    assert shards_of_database(database, None) == 5
    with pytest.raises(StartFailed, match=r"COS_NUM_SHARDS is '16', .*allowed: 5$"):
        shards_of_database(database, 16)


STRAY = "order\0-1x"
"""Chief of State stores its events without the NUL, and with the tag of all of it."""


def leave_a_stray(old: ChiefOfState) -> str:
    """The id it is stored under, whose own shard is another one."""
    stored = STRAY.replace("\0", "")
    assert old.tag(STRAY) != old.tag(stored)
    offset = old.command(stored)
    old.run("update event_tag set tag = %s where event_id = %s", old.tag(STRAY), offset)
    return stored


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_stray_row_is_named_and_does_not_keep_us_from_starting(
    old: ChiefOfState, is_configured: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stray = leave_a_stray(old)
    migrate(old.database)
    with caplog.at_level(logging.WARNING):
        assert shards_of_database(old.database, old.shards if is_configured else None) == old.shards
    [record] = caplog.records
    assert vars(record)["entities"] == [f"{stray} (tag {old.tag(STRAY)})"]
    with pytest.raises(StartFailed, match=rf"COS_NUM_SHARDS is '25', .*allowed: {old.shards}$"):
        shards_of_database(old.database, 25)
    report = inspect(old.database, None, [])
    assert (report.would_start, report.shards, report.tags_unexplained) == (True, old.shards, 1)


async def test_the_new_events_of_a_stray_lie_in_its_own_shard_and_every_event_is_delivered_once(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    stray = leave_a_stray(old)
    state = await command(journal, old.shards, stray, events=2)
    assert (state.sequence_number, state.meta.revision) == (3, 3)
    tags = old.run(
        "select tag from event_tag join event_journal on ordering = event_id"
        " where persistence_id = %s order by ordering",
        stray,
    )
    assert tags == [(old.tag(STRAY),), (old.tag(stray),), (old.tag(stray),)]
    shards = [Shard(number) for number in range(old.shards)]
    opened, book = PostgresReadSideStores(old.database), Book()
    await opened.open()
    stores = Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters)
    settings = ReadSideSettings(ReadSideId("fresh"))
    read_side = ReadSide(settings, shards, shards, Owner("me"), ReleaseId("r"), stores, book, SystemClock())
    running = asyncio.create_task(read_side.run())
    await until(lambda: _is(len([number for id_, number in book.seen if id_ == stray]) == 3))
    # Within its own shard in order; the older one's shard has its own pace.
    later = [number for id_, number in book.seen if id_ == stray and number > 1]
    assert later == [2, 3]
    await read_side.stop()
    await running
    await opened.close()


async def test_histories_go_on(old: ChiefOfState, journal: PostgresJournal) -> None:
    handler = Handler()
    state = await command(journal, old.shards, "order-0", events=2, handler=handler)
    assert handler.prior is not None
    assert unpack(handler.prior.state) == text("state 1")
    assert (state.sequence_number, state.meta.revision) == (3, 3)
    assert unpack(state.state) == text("ours at 3")


async def test_revisions_go_on_from_the_newest_row_s_and_sequence_numbers_from_the_key(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    assert (old.numbers["order-1"], old.revisions["order-1"]) == (4, 2)
    state = await command(journal, old.shards, "order-1", events=3)
    assert (state.sequence_number, state.meta.revision) == (7, 5)
    rows = old.run("select sequence_number from event_journal where persistence_id = 'order-1' order by 1")
    assert rows == [(number,) for number in range(1, 8)]


async def test_data_of_others_is_shown_to_the_handler_and_not_handed_on(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    handler = Handler()
    state = await command(journal, old.shards, "order-2", handler=handler)
    assert handler.prior is not None
    assert handler.prior.meta.data == (("trace", pack(text("abc"))),)
    assert state.meta.data == ()


async def test_an_entity_with_a_negative_shard_gets_a_real_one(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    state = await command(journal, old.shards, ODD_ID)
    assert state.sequence_number == 2
    query = (
        "select tag from event_tag join event_journal on ordering = event_id"
        " where persistence_id = %s order by ordering"
    )
    assert old.run(query, ODD_ID) == [("-2" if old.shards == 9 else "0",), ("0",)]
    assert shards_of_database(old.database, None) == old.shards


async def test_read_sides_go_on_after_the_offsets_they_were_left_at(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    await command(journal, old.shards, "order-3")
    shards = [Shard(number) for number in range(old.shards)]
    books = {name: Book() for name in ("ahead", "behind", "new")}
    opened = PostgresReadSideStores(old.database)
    await opened.open()
    stores = Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters)
    read_sides = [
        ReadSide(
            ReadSideSettings(ReadSideId(name)),
            shards,
            shards,
            Owner(name),
            ReleaseId("r"),
            stores,
            book,
            SystemClock(),
        )
        for name, book in books.items()
    ]
    running = [asyncio.create_task(read_side.run()) for read_side in read_sides]
    visible = [
        (entity, number)
        for entity, number, tag in old.run(
            "select persistence_id, sequence_number, tag"
            " from event_journal join event_tag on ordering = event_id order by ordering"
        )
        if not tag.startswith("-")
    ]
    before = len([row for row in visible if old.tag(row[0]) == old.tag("order-3")])
    await until(lambda: _is(sorted(books["new"].seen) == sorted(visible)))
    # It had everything of one shard but the last event of Chief of State, and nothing of the others, of
    # which one was paused, and is so still.
    paused = len([row for row in visible if old.tag(row[0]) == "0"])
    await until(lambda: _is(len(books["behind"].seen) == len(visible) - before + 2 - paused))
    assert books["ahead"].seen == [("order-3", 3)]
    for read_side in read_sides:
        await read_side.stop()
    await asyncio.gather(*running)
    await opened.close()
    [(manifests, mergeable)] = old.run(
        "select array_agg(distinct manifest::text), bool_or(mergeable) from read_side_offsets"
    )
    assert (manifests, mergeable) == (["SEQ"], False)


async def test_after_our_writes_chief_of_state_finds_what_it_wants(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    """Column by column: what Akka's queries and serializers, and Chief of State itself, go by."""
    begun = datetime.now(timezone.utc).timestamp() * 1000 - 1
    [(newest,)] = old.run("select max(ordering) from event_journal")
    await command(journal, old.shards, "order-1", events=2)
    await command(journal, old.shards, "fresh", events=2)
    stores = PostgresReadSideStores(old.database)
    await stores.open()
    await stores.controls.take(
        ReadSideId("ours"), [Shard(3)], Owner("us"), LeaseRank(1, True, 1), timedelta(hours=1)
    )
    assert await stores.offsets.save(ReadSideId("ours"), {Shard(3): Offset(newest)}, Owner("us")) == set()
    await stores.close()
    await journal.close()
    rows = old.run("select * from event_journal where ordering > %s order by ordering", newest)
    assert [row[1:3] for row in rows] == [("order-1", 5), ("order-1", 6), ("fresh", 1), ("fresh", 2)]
    for row in rows:
        _, entity, number, deleted, writer, stamp, adapter, serializer, manifest, payload, *meta = row
        assert deleted is False
        assert writer
        assert begun <= stamp <= datetime.now(timezone.utc).timestamp() * 1000
        assert adapter == ""
        assert (serializer, manifest) == (5001, "chief_of_state.v1.EventWrapper")
        assert meta == [None, None, None]
        wrapper = EventWrapper.FromString(payload)
        assert wrapper.meta.entity_id == entity
        assert wrapper.meta.revision_number == (number - 2 if entity == "order-1" else number)
        assert wrapper.meta.HasField("revision_date")
        assert wrapper.HasField("event")
        assert wrapper.HasField("resulting_state")
        # One tag, by its own formula: its read sides and ours meet each event in the same shard.
        assert old.run("select tag from event_tag where event_id = %s", row[0]) == [(old.tag(entity),)]
    for entity, number, created, serializer, manifest, payload, *meta in old.run(
        "select * from state_snapshot where created > 1700000000000 order by persistence_id"
    ):
        assert (entity, number) in [("fresh", 2), ("order-1", 6)]
        assert created >= begun
        assert (serializer, manifest, meta) == (5001, "chief_of_state.v1.StateWrapper", [None, None, None])
        wrapper = StateWrapper.FromString(payload)
        assert wrapper.meta.entity_id == entity
        assert wrapper.state == text(f"ours at {wrapper.meta.revision_number}")
    [(key, offset, manifest, mergeable, updated)] = old.run(
        "select projection_key, current_offset, manifest, mergeable, last_updated from read_side_offsets"
        " where projection_name = 'ours'"
    )
    assert (key, offset, manifest, mergeable) == ("3", str(newest), "SEQ", False)
    assert updated >= begun
    # Its next event comes after ours, by number and by offset.
    old.numbers["order-1"], old.revisions["order-1"] = 6, 4
    assert old.command("order-1") > rows[-1][0]
    assert old.run("select paused from read_sides where projection_name = 'behind'") == [(True,)]
    assert old.run("select max(version_number) from cos_migrations") == [(6,)]


async def test_a_reader_that_starts_meanwhile_does_not_skip_what_commits_late(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction allocates an offset, another one a higher, the second commits: we start."""
    old = ChiefOfState(empty_database, 16)
    old.make_tables()
    shard = Shard(int(old.tag("slow")))
    quick = next(name for name in map(str, range(1000)) if old.tag(name) == str(shard))
    waiting = threading.Event()
    look = foreign_writers.writers

    def observed(connection: Any) -> Any:
        found = look(connection)
        if found:
            waiting.set()
        return found

    monkeypatch.setattr(foreign_writers, "writers", observed)

    async def read() -> list[tuple[str, int]]:
        await asyncio.to_thread(migrate, empty_database)
        journal = PostgresJournal(empty_database)
        await journal.open()
        try:
            events = await journal.after(shard, Offset(0), 10)
        finally:
            await journal.close()
        return [(event.envelope.meta.entity_id, event.offset) for event in events]

    with connected(empty_database) as slow, slow.transaction():
        late = old.command("slow", connection=slow)
        early = old.command(quick)
        assert early > late
        reading = asyncio.create_task(read())
        assert await asyncio.to_thread(waiting.wait, 10)
        await asyncio.sleep(0.5)  # the transaction takes its time
        assert not reading.done()
    assert await reading == [("slow", late), (quick, early)]


async def test_an_event_that_cannot_be_read_stops_its_entity_and_its_shard_and_is_named(
    old: ChiefOfState, journal: PostgresJournal
) -> None:
    shard = Shard(int(old.tag("secret")))
    with connected(old.database) as connection:
        encrypted = old.row(connection, "secret", 1, b"\xff encrypted")
    with pytest.raises(JournalUnavailable, match="event 1 of secret is no EventWrapper"):
        await journal.newest(EntityId("secret"))
    with pytest.raises(JournalUnavailable, match=f"at offset {encrypted} is no EventWrapper"):
        await journal.after(shard, Offset(encrypted - 1), 10)
    before = await journal.after(shard, Offset(0), 1000)
    assert before
    assert all(event.offset < encrypted for event in before)
    await command(journal, old.shards, "order-0")


def test_a_transaction_that_does_not_end_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_writers, "PATIENCE", foreign_writers.PATIENCE / 1000)
    old = ChiefOfState(database, 16)
    with connected(database) as slow, slow.transaction():
        old.command("slow", connection=slow)
        with pytest.raises(StartFailed, match=f"process {slow.info.backend_pid} keeps a transaction open"):
            migrate(database)


def test_an_offset_taken_ahead_of_its_row_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_writers, "PATIENCE", foreign_writers.PATIENCE / 1000)
    with connected(database) as slow, slow.transaction():
        slow.execute("select nextval('event_journal_ordering_seq')")
        with pytest.raises(StartFailed, match="keeps a transaction open"):
            migrate(database)


def test_a_prepared_transaction_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process has it any more, and it may be committed at any time."""
    monkeypatch.setattr(foreign_writers, "PATIENCE", foreign_writers.PATIENCE / 1000)
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        with connected(server.start()) as connection:
            connection.execute("alter system set max_prepared_transactions = 1")
        server.stop()
        database = server.start()
        migrate(database)
        with connected(database) as session:
            session.execute("begin")
            ChiefOfState(database, 16).command("slow", connection=session)
            session.execute("prepare transaction 'a'")
            with pytest.raises(StartFailed, match=r"a prepared transaction .* keeps a transaction open"):
                migrate(database)
            session.execute("commit prepared 'a'")
        assert migrate(database) == []
    finally:
        server.stop()


async def _is(fact: bool) -> bool:
    return fact
