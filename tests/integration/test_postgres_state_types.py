"""Changes of state types in a real journal: what is known of them, for how long, and who is told."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any as Untyped

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.errors import RevisionConflict
from cos_ray.domain.ids import CommandId, EntityId, Revision
from cos_ray.domain.messages import Accepted, Command, EntityState, Headers, Meta, Packed, Refused, Reply
from cos_ray.domain.sharding import shard_of
from cos_ray.domain.type_changes import Grounds, OnChange, PassedChange, Precedent, TypeChange, TypePolicy
from cos_ray.domain.types import EntityPolicy
from cos_ray.postgres.database import Database
from cos_ray.postgres.inspection import inspect
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.protocol.codec import pack
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.system.clock import SystemClock
from cos_ray.testing.meters import ScriptOfJournal
from cos_ray.writeside.entity import Entity
from tests.support.chief_of_state import ChiefOfState, left_behind
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, until

CART, BASKET = "shop.v1.Cart", "shop.v1.Basket"
RENAME = TypeChange(CART, BASKET)
UNKNOWN, KNOWN = Precedent(False, False), Precedent(True, False)
serials = itertools.count()


def of_type(name: str, size: int = 3) -> Packed:
    return pack(Any(type_url=f"type.googleapis.com/{name}", value=b"x" * size))


class Renamed:
    """A write handler whose state has this type; it keeps nothing of a state of another."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        return Persist((of_type("shop.v1.Added"),))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        return of_type(self.name)


async def process(
    journal: PostgresJournal, entity: str, name: str, policy: TypePolicy | None = None
) -> Reply:
    """A command of an entity that has just been woken."""
    id_ = EntityId(entity)
    woken = Entity(
        id_,
        shard_of(id_, SHARDS),
        Renamed(name),
        journal,
        SystemClock(),
        EntityPolicy(type_policy=policy or TypePolicy()),
    )
    return await woken.process(Command(id_, Packed(b""), CommandId(f"c{next(serials)}"), 20.0))


async def store(
    journal: PostgresJournal, entity: str, *names: str, size: int = 3, passed: PassedChange | None = None
) -> None:
    """One event after the other, with states of these types; `passed` is noted with the last one."""
    newest = await journal.newest(EntityId(entity))
    append = append_of(entity, newest.sequence_number if newest else 0, len(names))
    envelopes = [
        replace(envelope, resulting_state=of_type(name), event=of_type("shop.v1.Added", size))
        for envelope, name in zip(append.envelopes, names, strict=True)
    ]
    envelopes[-1] = replace(envelopes[-1], passed_change=passed)
    await journal.append(replace(append, envelopes=tuple(envelopes)))


@asynccontextmanager
async def opened(database: Database, meter: ScriptOfJournal | None = None) -> AsyncIterator[PostgresJournal]:
    """The journal, as another process has it."""
    journal = PostgresJournal(database, meter=meter or ScriptOfJournal())
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def noted(database: Database) -> list[tuple[str, str, str]]:
    with connected(database) as connection:
        query = "select old_type, new_type, grounds from cos_type_changes order by 1, 2"
        return [(str(a), str(b), str(c)) for a, b, c in connection.execute(query).fetchall()]


def told(records: Sequence[logging.LogRecord], level: int) -> list[tuple[object, object]]:
    return [
        (record.__dict__["old_type"], record.__dict__["new_type"])
        for record in records
        if record.levelno == level and hasattr(record, "old_type")
    ]


class TestTheTypeInAPayload:
    @given(
        event=st.none() | st.binary(max_size=400),
        url=st.from_regex(r"[a-z./]{0,150}[A-Za-z_.]{1,60}", fullmatch=True),
        value=st.binary(max_size=300),
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_is_what_protobuf_reads(
        self, database: Database, event: bytes | None, url: str, value: bytes
    ) -> None:
        wrapper = EventWrapper()
        if event is not None:
            wrapper.event.value = event
        wrapper.resulting_state.type_url, wrapper.resulting_state.value = url, value
        wrapper.meta.entity_id = "e"
        assert self._read(database, wrapper.SerializeToString()) == url.rpartition("/")[2]

    @pytest.mark.parametrize("size", [120, 130, 20_000, 5_000_000])
    def test_it_is_found_behind_an_event_of_any_size(self, database: Database, size: int) -> None:
        wrapper = EventWrapper(event=Any(value=bytes(size)), resulting_state=Any(type_url=f"x/{CART}"))
        assert self._read(database, wrapper.SerializeToString()) == CART

    @given(st.binary(max_size=60))
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_in_anything_else_something_is_read_without_an_error(
        self, database: Database, payload: bytes
    ) -> None:
        self._read(database, payload)

    @pytest.mark.parametrize("payload", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff", b"\x0a\x05abc"])
    def test_where_there_is_no_state_there_is_no_type(self, database: Database, payload: bytes) -> None:
        assert self._read(database, payload) is None

    def _read(self, database: Database, payload: bytes) -> object:
        with connected(database) as connection:
            [(name,)] = connection.execute("select cos_state_type(%s)", [payload]).fetchall()
            return name


class TestWhatTheJournalKnows:
    async def test_what_its_newest_events_show_it_knows_and_puts_down(
        self, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        assert await postgres_journal.precedent(RENAME) == UNKNOWN
        await store(postgres_journal, "a", CART, CART, BASKET, BASKET)
        await store(postgres_journal, "b", CART, CART)
        async with opened(database) as other:
            assert await other.precedent(RENAME) == KNOWN
            assert await other.precedent(TypeChange(BASKET, CART)) == UNKNOWN
        assert noted(database) == [(CART, BASKET, "held")]

    async def test_what_it_has_looked_for_once_it_does_not_look_for_again(
        self, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        assert await postgres_journal.precedent(RENAME) == UNKNOWN
        await store(postgres_journal, "a", CART, BASKET)
        assert await postgres_journal.precedent(RENAME) == UNKNOWN
        async with opened(database) as other:
            assert await other.precedent(RENAME) == KNOWN
        assert await postgres_journal.precedent(RENAME) == KNOWN

    async def test_what_it_knows_it_does_not_ask_for_again(
        self, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        await store(postgres_journal, "a", CART, BASKET)
        assert await postgres_journal.precedent(RENAME) == KNOWN
        with connected(database) as connection:
            connection.execute("drop table cos_type_changes")
        assert await postgres_journal.precedent(RENAME) == KNOWN

    async def test_two_states_of_two_entities_are_no_change(self, postgres_journal: PostgresJournal) -> None:
        await store(postgres_journal, "a", CART)
        await store(postgres_journal, "b", BASKET)
        assert await postgres_journal.precedent(RENAME) == UNKNOWN

    async def test_an_append_tells_it_however_long_ago_that_was(
        self, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        await store(postgres_journal, "a", CART, BASKET, passed=PassedChange(RENAME, Grounds.DECLARED))

        async def is_noted() -> bool:
            return noted(database) == [(CART, BASKET, "declared")]

        await until(is_noted)
        with connected(database) as connection:
            connection.execute("delete from event_tag; delete from event_journal")
        async with opened(database) as other:
            assert await other.precedent(RENAME) == KNOWN

    async def test_what_an_append_told_is_put_down_before_the_journal_is_closed(
        self, database: Database
    ) -> None:
        async with opened(database) as journal:
            await store(journal, "a", CART, BASKET, passed=PassedChange(RENAME, Grounds.ALLOWED))
        assert noted(database) == [(CART, BASKET, "allowed")]

    async def test_of_what_was_not_stored_nothing_is_put_down(self, database: Database) -> None:
        async with opened(database) as journal:
            await store(journal, "a", CART)
            with pytest.raises(RevisionConflict):
                await journal.append(
                    replace(append_of("a", 0), envelopes=(await _changed(journal),), expected=Revision(0))
                )
        assert noted(database) == []

    @pytest.mark.parametrize("name", ["nul\0", "x" * 501, "größe", "", "a b\n"])
    async def test_a_name_that_is_none_troubles_nobody(
        self, postgres_journal: PostgresJournal, database: Database, name: str
    ) -> None:
        assert await postgres_journal.precedent(TypeChange(CART, name)) == UNKNOWN
        change = PassedChange(TypeChange(CART, name), Grounds.ALLOWED)
        await store(postgres_journal, "a", CART, CART, passed=change)
        assert noted(database) == []

    async def test_large_events_are_looked_through_as_quickly(self, database: Database) -> None:
        async with opened(database) as journal:
            for number in range(60):
                await store(journal, f"a{number}", CART, CART, size=2_000_000)
            await store(journal, "b", CART, BASKET)
            assert await journal.precedent(RENAME) == KNOWN


async def _changed(journal: PostgresJournal) -> Untyped:
    [envelope] = append_of("a", 0).envelopes
    return replace(envelope, passed_change=PassedChange(RENAME, Grounds.ALLOWED))


class TestJournalsOfChiefOfState:
    async def test_one_of_ours_is_none(self, database: Database) -> None:
        async with opened(database) as journal:
            await store(journal, "a", CART)
        migrate(database)
        async with opened(database) as journal:
            assert await journal.precedent(RENAME) == Precedent(False, is_taken_over=False)

    @pytest.mark.parametrize("shards", [9, 16])
    async def test_one_that_was_taken_over_stays_so(self, empty_database: Database, shards: int) -> None:
        left_behind(empty_database, shards)
        migrate(empty_database)
        with connected(empty_database) as connection:
            connection.execute("delete from event_tag; delete from event_journal")
        migrate(empty_database)
        async with opened(empty_database) as journal:
            await store(journal, "a", CART)
            assert (await journal.precedent(RENAME)).is_taken_over

    async def test_one_that_an_older_release_took_over_is_known_by_its_first_event(
        self, empty_database: Database
    ) -> None:
        left_behind(empty_database, 16)
        migrate(empty_database)
        async with opened(empty_database) as journal:
            await store(journal, "a", CART)
        with connected(empty_database) as connection:
            connection.execute("delete from cos_journal_writers")
        migrate(empty_database)
        async with opened(empty_database) as journal:
            assert (await journal.precedent(RENAME)).is_taken_over

    async def test_so_is_one_of_ours_that_was_lent_to_it(self, database: Database) -> None:
        async with opened(database) as journal:
            await store(journal, "a", CART)
        ChiefOfState(database, 16).command("b")
        migrate(database)
        async with opened(database) as journal:
            await store(journal, "a", CART)
            assert (await journal.precedent(RENAME)).is_taken_over


class TestTheDefaults:
    async def test_a_journal_of_ours_refuses_and_stores_nothing(self, database: Database) -> None:
        async with opened(database) as journal:
            assert isinstance(await process(journal, "a", CART), Accepted)
            assert isinstance(await process(journal, "a", BASKET), Refused)
            newest = await journal.newest(EntityId("a"))
            assert newest is not None
            assert newest.sequence_number == 1
        assert noted(database) == []

    async def test_a_journal_of_chief_of_state_warns_once_for_each_pair(
        self, empty_database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        left_behind(empty_database, 16)
        migrate(empty_database)
        meters = [ScriptOfJournal(), ScriptOfJournal()]
        for meter in meters:
            async with opened(empty_database, meter) as journal:
                for entity in ("a", "b", "order-1"):
                    assert isinstance(await process(journal, entity, CART), Accepted)
                    assert isinstance(await process(journal, entity, BASKET), Accepted)
        pairs = [("google.protobuf.StringValue", CART), (BASKET, CART), RENAME]
        expected = sorted((pair if isinstance(pair, tuple) else (pair.old, pair.new)) for pair in pairs)
        assert sorted(told(caplog.records, logging.WARNING)) == expected
        assert noted(empty_database) == [(old, new, "warned") for old, new in expected]
        assert [meter.type_changes for meter in meters] == [[Grounds.WARNED] * 2, [Grounds.WARNED]]

    async def test_a_handler_in_the_old_release_is_refused_once_the_new_one_has_been_there(
        self, database: Database
    ) -> None:
        declared = TypePolicy(OnChange.REFUSE, renames=frozenset({RENAME}))
        async with opened(database) as journal:
            await process(journal, "a", CART, declared)
            assert isinstance(await process(journal, "a", BASKET, declared), Accepted)
            assert isinstance(await process(journal, "a", CART, declared), Refused)


class TestJournalCheck:
    async def test_it_lists_what_is_on_record_and_what_it_sees(self, empty_database: Database) -> None:
        left_behind(empty_database, 16)
        before = inspect(empty_database, None, [])
        assert before.is_taken_over
        assert before.type_changes == []
        migrate(empty_database)
        async with opened(empty_database) as journal:
            await process(journal, "order-1", CART)
            await store(journal, "a", "x.A", "x.B", "x.A", "x.B", "google.protobuf.Empty", "x.A")
        report = inspect(empty_database, None, [])
        shown = [(one.old, one.new, one.grounds, one.rows, one.example) for one in report.type_changes]
        assert shown == [
            ("x.A", "x.B", "not watched", 2, "a at 4"),
            ("google.protobuf.StringValue", CART, "warned", 1, "order-1 at 5"),
            ("x.B", "google.protobuf.Empty", "not watched", 1, "a at 5"),
            ("x.B", "x.A", "not watched", 1, "a at 3"),
        ]

    async def test_it_says_so_when_chief_of_state_has_not_been_there(self, database: Database) -> None:
        async with opened(database) as journal:
            await store(journal, "a", CART, CART)
        report = inspect(database, None, [])
        assert not report.is_taken_over
        assert report.type_changes == []
