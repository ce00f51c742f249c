"""The past of entities, and which there are, as HistoryService answers from Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.domain.dates import date_of
from cos_ray.domain.ids import Revision
from cos_ray.domain.messages import Append
from cos_ray.ingress.history_methods import HistoryMethods
from cos_ray.postgres import history_queries
from cos_ray.postgres.database import Database
from cos_ray.postgres.history_queries import HistoryQueries
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.rows import columns, encode
from cos_ray.postgres.statements import statement
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import (
    GetEventsRequest,
    GetStateAtRequest,
    GetStatesRequest,
    ListEntitiesRequest,
)
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.router import Router
from tests.contracts.rigs import PostgresRig
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import TcpProxy
from tests.unit.test_ingress import Context

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@dataclass
class Parts:
    gateway: Router
    history: PostgresJournal
    past: HistoryQueries


@pytest.fixture
def service(postgres_journal: PostgresJournal) -> HistoryMethods:
    methods = HistoryMethods()
    gateway = Router(None, postgres_journal, SystemClock())  # type: ignore[arg-type]
    methods._parts = Parts(gateway, postgres_journal, postgres_journal.past)
    return methods


def dated(append: Append, *dates: datetime) -> Append:
    """The same events, made at these times."""
    envelopes = [
        replace(envelope, meta=replace(envelope.meta, date=date))
        for envelope, date in zip(append.envelopes, dates, strict=True)
    ]
    return replace(append, envelopes=tuple(envelopes))


def renumbered(append: Append, *revisions: int) -> Append:
    """The same rows with other revisions, as Chief of State's multi-event bug left some."""
    envelopes = [
        replace(envelope, meta=replace(envelope.meta, revision=Revision(revision)))
        for envelope, revision in zip(append.envelopes, revisions, strict=True)
    ]
    return replace(append, envelopes=tuple(envelopes))


def stored_at_noon(database: Database) -> None:
    """As if what is stored had been stored then."""
    with connected(database) as connection:
        query = "update event_journal set write_timestamp = %s"
        connection.execute(query, [int(NOON.timestamp() * 1000)])


async def all_revisions(service: HistoryMethods, request: GetEventsRequest) -> list[list[int]]:
    pages = []
    while True:
        reply = await service.GetEvents(request, Context())
        pages.append([event.meta.revision_number for event in reply.events])
        if not reply.next_revision:
            return pages
        request.from_revision = reply.next_revision


async def test_events_come_in_pages_between_two_revisions(
    service: HistoryMethods, postgres_journal: PostgresJournal
) -> None:
    append = append_of("a", 0, events=7)
    await postgres_journal.append(append)
    assert await all_revisions(service, GetEventsRequest(entity_id="a")) == [[1, 2, 3, 4, 5, 6, 7]]
    assert await all_revisions(service, GetEventsRequest(entity_id="a", page_size=3)) == [
        [1, 2, 3],
        [4, 5, 6],
        [7],
    ]
    some = GetEventsRequest(entity_id="a", from_revision=2, to_revision=5, page_size=2)
    assert await all_revisions(service, some) == [[2, 3], [4, 5]]
    assert await all_revisions(service, GetEventsRequest(entity_id="nobody")) == [[]]
    (event, *_) = (await service.GetEvents(GetEventsRequest(entity_id="a"), Context())).events
    assert event.event.SerializeToString() == append.envelopes[0].event
    assert event.resulting_state.SerializeToString() == append.envelopes[0].resulting_state


async def test_a_page_of_large_events_ends_early(
    service: HistoryMethods, postgres_journal: PostgresJournal
) -> None:
    for revision in range(5):
        await postgres_journal.append(append_of("a", revision, padding=2_000_000))
    assert await all_revisions(service, GetEventsRequest(entity_id="a")) == [[1, 2], [3, 4], [5]]


async def test_revisions_count_where_sequence_numbers_have_run_ahead(
    service: HistoryMethods, postgres_journal: PostgresJournal
) -> None:
    await postgres_journal.append(renumbered(append_of("a", 0, events=5), 1, 1, 1, 2, 3))
    assert await all_revisions(service, GetEventsRequest(entity_id="a", from_revision=2)) == [[2, 3]]
    for revision in (1, 2, 3):
        reply = await service.GetStateAt(GetStateAtRequest(entity_id="a", revision=revision), Context())
        assert reply.meta.revision_number == revision


async def test_the_state_at_a_revision_or_at_a_time(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    dates = [NOON + timedelta(seconds=n) for n in (0, 10, 20)]
    await postgres_journal.append(dated(append_of("a", 0, events=3), *dates))
    stored_at_noon(database)

    async def at(seconds: float) -> int | None:
        moment = Timestamp()
        moment.FromDatetime(NOON + timedelta(seconds=seconds))
        context = Context()
        reply = await service.GetStateAt(GetStateAtRequest(entity_id="a", time=moment), context)
        if context.code is grpc.StatusCode.NOT_FOUND:
            return None
        return reply.meta.revision_number

    assert [await at(s) for s in (-0.001, 0, 9.999, 10, 20, 10**6)] == [None, 1, 1, 2, 3, 3]
    for revision, code in ((3, None), (4, grpc.StatusCode.NOT_FOUND), (0, grpc.StatusCode.INVALID_ARGUMENT)):
        context = Context()
        await service.GetStateAt(GetStateAtRequest(entity_id="a", revision=revision), context)
        assert context.code is code


async def test_dates_keep_their_nanoseconds_and_times_are_compared_with_them(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    seconds = int(NOON.timestamp())
    dates = [date_of(seconds, nanos) for nanos in (541_789_848, 541_789_849)]
    await postgres_journal.append(dated(append_of("a", 0, events=2), *dates))
    stored_at_noon(database)
    for nanos, revision in ((541_789_847, 0), (541_789_848, 1), (541_789_849, 2), (541_790_000, 2)):
        moment = Timestamp(seconds=seconds, nanos=nanos)
        reply = await service.GetStateAt(GetStateAtRequest(entity_id="a", time=moment), Context())
        assert reply.meta.revision_number == revision
    events = (await service.GetEvents(GetEventsRequest(entity_id="a"), Context())).events
    assert [event.meta.revision_date.nanos for event in events] == [541_789_848, 541_789_849]


async def test_a_time_far_back_in_a_long_history_is_found(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    dates = [NOON + timedelta(seconds=n) for n in range(350)]
    await postgres_journal.append(dated(append_of("a", 0, events=350), *dates))
    stored_at_noon(database)
    moment = Timestamp()
    moment.FromDatetime(NOON + timedelta(seconds=42))
    reply = await service.GetStateAt(GetStateAtRequest(entity_id="a", time=moment), Context())
    assert reply.meta.revision_number == 43


async def test_the_states_of_several_in_the_order_asked_for(
    service: HistoryMethods, postgres_journal: PostgresJournal
) -> None:
    for name in ("a", "b"):
        await postgres_journal.append(append_of(name, 0, events=2))
    reply = await service.GetStates(GetStatesRequest(entity_ids=["b", "nobody", "a", "b"]), Context())
    assert [state.meta.entity_id for state in reply.states] == ["b", "a"]
    assert list(reply.missing) == ["nobody"]


async def listed(service: HistoryMethods, **wanted: object) -> list[str]:
    request, found = ListEntitiesRequest(**wanted), []  # type: ignore[arg-type]
    while True:
        context = Context()
        reply = await service.ListEntities(request, context)
        assert context.code is None, context.details
        found += [entity.entity_id for entity in reply.entities]
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


async def test_entities_are_listed_by_prefix_in_byte_order(
    service: HistoryMethods, postgres_journal: PostgresJournal
) -> None:
    names = ["a%b", "a_b", "a-1", "a-2", "A-1", "a", "b", "é", "a\U0010ffff", "a\ud7ffx", "\N{GRINNING FACE}"]
    for name in names:
        await postgres_journal.append(append_of(name, 0))
        await postgres_journal.append(append_of(name, 1))
    assert await listed(service) == sorted(names, key=str.encode)
    assert await listed(service, page_size=2) == sorted(names, key=str.encode)
    for prefix in ("a", "a-", "a%", "a_", "é", "a\U0010ffff", "a\ud7ff", "nobody", "A"):
        expected = sorted((n for n in names if n.startswith(prefix)), key=str.encode)
        assert await listed(service, prefix=prefix, page_size=3) == expected


async def test_an_entity_is_listed_whatever_became_of_its_neighbours_in_a_batch(
    service: HistoryMethods, database: Database
) -> None:
    batch = [encode(append_of("lands", 0, events=2)), encode(append_of("conflicts", 5))]
    with connected(database) as connection:
        answers = connection.execute(statement("append"), columns(batch)).fetchall()
    assert [outcome for outcome, _ in answers] == ["L", "C"]
    assert await listed(service) == ["lands"]


async def test_entities_with_something_new_come_in_the_order_of_it(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    for name in ("a", "b", "c"):
        await postgres_journal.append(append_of(name, 0))
    with connected(database) as connection:
        connection.execute("update event_journal set write_timestamp = 1000 * ordering")
    await postgres_journal.append(append_of("a", 1))
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)

    def since(seconds: float) -> Timestamp:
        moment = Timestamp()
        moment.FromDatetime(epoch + timedelta(seconds=seconds))
        return moment

    assert await listed(service, updated_since=since(0), page_size=1) == ["b", "c", "a"]
    assert await listed(service, updated_since=since(3)) == ["c", "a"]
    assert await listed(service, updated_since=since(3.001)) == ["a"]
    assert await listed(service, updated_since=since(3), prefix="c") == ["c"]
    now = Timestamp()
    now.FromDatetime(datetime.now(timezone.utc) + timedelta(hours=1))
    assert await listed(service, updated_since=now) == []


async def test_something_new_is_found_though_the_clock_was_set_back(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    for name in ("before", "early", "late"):
        await postgres_journal.append(append_of(name, 0))
    await postgres_journal.append(append_of("early", 1))
    dates = {"before": 1_000, "early": 9_000, "late": 5_000}
    with connected(database) as connection:
        for name, date in dates.items():
            query = "update event_journal set write_timestamp = %s where persistence_id = %s"
            connection.execute(query, [date, name])
        # Its newest event is dated before all others.
        connection.execute("update event_journal set write_timestamp = 10 where sequence_number = 2")
    since = Timestamp(seconds=6)
    assert await listed(service, updated_since=since) == ["early"]
    assert await listed(service, updated_since=Timestamp(seconds=2)) == ["late", "early"]


async def test_something_new_that_is_committed_late_is_not_missed(
    service: HistoryMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    """It is given an offset before those of the first page, and committed when that has been answered."""
    rig = PostgresRig(postgres_journal, database, TcpProxy(database.port))
    shards = {append_of(name, 0).shard: name for name in map(str, range(50))}
    late, first, second, later = (append_of(shards[shard], 0) for shard in sorted(shards))
    request = ListEntitiesRequest(updated_since=Timestamp(seconds=1), page_size=1)

    async def page(token: str) -> tuple[list[str], str]:
        request.page_token = token
        reply = await service.ListEntities(request, Context())
        return [entity.entity_id for entity in reply.entities], reply.next_page_token

    async with rig.committing_late(late):
        await postgres_journal.append(first)
        await postgres_journal.append(second)
        asking = asyncio.ensure_future(page(""))
        await until(lambda: _waits(postgres_journal))
        assert not asking.done()
    found, token = await asking
    assert found == [late.entity_id]
    # So it is with every page.
    async with rig.committing_late(later):
        await postgres_journal.append(append_of(first.entity_id, 1))
        asking = asyncio.ensure_future(page(token))
        await until(lambda: _waits(postgres_journal))
        assert not asking.done()
    more, token = await asking
    found += more
    while token:
        more, token = await page(token)
        found += more
    assert found == [late.entity_id, second.entity_id, later.entity_id, first.entity_id]


async def test_what_takes_too_long_to_be_committed_makes_the_list_unavailable(
    service: HistoryMethods,
    postgres_journal: PostgresJournal,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_queries, "SETTLED_WITHIN", 0.05)
    await postgres_journal.append(append_of("a", 0))
    rig, context = PostgresRig(postgres_journal, database, TcpProxy(database.port)), Context()
    async with rig.committing_late(append_of("b", 0)):
        await service.ListEntities(ListEntitiesRequest(updated_since=Timestamp(seconds=1)), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE


async def _waits(journal: PostgresJournal) -> bool:
    """Whether somebody has had the time to look at the end of the journal."""
    for _ in range(3):
        await journal.tail.head()
    return True


async def test_the_first_event_of_a_moment_is_found_whatever_holes_there_are(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    await postgres_journal.append(append_of("a", 0, events=40))
    with connected(database) as connection:
        connection.execute("delete from event_journal where ordering % 7 in (0, 3, 4) or ordering < 4")
        connection.execute("update event_journal set write_timestamp = 1000 * ordering")
        rows = connection.execute("select ordering from event_journal order by ordering").fetchall()
    offsets = [int(str(offset)) for (offset,) in rows]
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for second in range(45):
        expected = next((offset for offset in offsets if offset >= second), None)
        assert await postgres_journal.past.offset_at(epoch + timedelta(seconds=second)) == expected


@pytest.mark.parametrize(
    ("method", "request_", "text"),
    [
        ("GetEvents", GetEventsRequest(), "empty entity ID"),
        ("GetEvents", GetEventsRequest(entity_id="a", page_size=1001), "allowed: 1 to 1000"),
        (
            "GetEvents",
            GetEventsRequest(entity_id="a", from_revision=3, to_revision=2),
            "before from_revision",
        ),
        ("GetStateAt", GetStateAtRequest(entity_id="a"), "revision or time"),
        ("GetStateAt", GetStateAtRequest(entity_id="a", time=Timestamp(seconds=2**60)), "out of range"),
        ("GetStates", GetStatesRequest(entity_ids=[""]), "empty entity ID"),
        ("GetStates", GetStatesRequest(entity_ids=map(str, range(1001))), "allowed: 1000"),
        ("ListEntities", ListEntitiesRequest(prefix="\0"), "NUL"),
        (
            "ListEntities",
            ListEntitiesRequest(updated_since=Timestamp(seconds=1), page_token="x"),
            "page_token is none",
        ),
    ],
)
async def test_a_question_that_makes_no_sense_is_an_invalid_argument(
    service: HistoryMethods, method: str, request_: object, text: str
) -> None:
    context = Context()
    await getattr(service, method)(request_, context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in context.details


async def test_a_time_at_the_end_of_all_days_is_a_time(service: HistoryMethods) -> None:
    context = Context()
    last = Timestamp(seconds=253402300799)
    await service.GetStateAt(GetStateAtRequest(entity_id="a", time=last), context)
    assert context.code is grpc.StatusCode.NOT_FOUND


async def test_without_a_journal_it_is_unavailable() -> None:
    journal = MemoryJournal()
    journal.reachable = False
    methods = HistoryMethods()
    methods._parts = Parts(Router(None, journal, SystemClock()), journal, None)  # type: ignore[arg-type]
    context = Context()
    await methods.GetEvents(GetEventsRequest(entity_id="a"), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE
    context = Context()
    await methods.GetStates(GetStatesRequest(entity_ids=["a", "b"]), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE
