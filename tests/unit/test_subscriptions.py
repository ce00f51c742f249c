"""What those who listen hear: everything, once, in order, or the word that it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cos_ray.domain.erasure import KNOWN_WITHIN, redacted, says_nothing
from cos_ray.domain.errors import Code, JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import Append, JournaledEvent, RowIdentity
from cos_ray.domain.watermark import JournalHead
from cos_ray.subscriptions.listener import Bounds, SubscriptionEnded
from cos_ray.subscriptions.stored_events import PAGE
from cos_ray.subscriptions.subscriptions import Kind, SubscriptionPolicy, Subscriptions, Wanted
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from tests.support.journal import append_of

A, B = EntityId("a"), EntityId("b")


@dataclass
class Client:
    """Takes events as they come, until it is over."""

    task: asyncio.Task[None]
    events: list[JournaledEvent] = field(default_factory=list)
    end: SubscriptionEnded | None = None
    is_over: bool = False
    may_take: asyncio.Event = field(default_factory=asyncio.Event)
    is_open: bool = False

    @property
    def heard(self) -> list[tuple[str, int]]:
        return [(e.envelope.meta.entity_id, e.envelope.meta.revision) for e in self.events]


class World:
    """A journal, a clock and subscriptions to it."""

    def __init__(self, policy: SubscriptionPolicy | None = None) -> None:
        self.journal, self.clock = MemoryJournal(), ManualClock()
        self.subscriptions = Subscriptions(self.journal, self.clock, policy)

    async def listen(self, wanted: Wanted, *, slow: bool = False) -> Client:
        client = Client(task=asyncio.ensure_future(asyncio.sleep(0)))
        if not slow:
            client.may_take.set()

        def opened() -> None:
            client.is_open = True

        async def take() -> None:
            try:
                async for event in self.subscriptions.events(wanted, opened):
                    client.events.append(event)
                    await client.may_take.wait()
            except SubscriptionEnded as end:
                client.end = end
            client.is_over = True

        client.task = asyncio.ensure_future(take())
        await self.pass_time()
        return client

    async def store(self, *appends: Append) -> None:
        for append in appends:
            await self.journal.append(append)
        await self.pass_time()

    async def pass_time(self, seconds: float = 0.2) -> None:
        await self.clock.pass_time(seconds)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.subscriptions.close()


def of_a(**more: object) -> Wanted:
    return Wanted("s", A, **more)  # type: ignore[arg-type]


async def test_one_hears_of_the_entity_one_listens_to_and_of_all_its_events(world: World) -> None:
    await world.store(append_of("a", 0))
    client = await world.listen(of_a())
    await world.store(append_of("a", 1, events=3), append_of("b", 0), append_of("a", 4))
    assert client.heard == [("a", 2), ("a", 3), ("a", 4), ("a", 5)]


async def test_large_events_are_told_page_by_page_and_all_of_them() -> None:
    world = World(SubscriptionPolicy(bounds=Bounds(size=10**9)))
    client = await world.listen(Wanted("s"))
    await world.store(append_of("a", 0, events=7, padding=3_000_000))
    assert client.heard == [("a", revision) for revision in range(1, 8)]
    world.subscriptions.close()


async def test_who_listens_to_all_hears_in_the_order_of_offsets_however_late_one_is_committed(
    world: World,
) -> None:
    client = await world.listen(Wanted("s"))
    async with world.journal.committing_late(append_of("a", 0)):
        await world.store(append_of("b", 0))
        assert client.heard == []
    await world.pass_time()
    assert client.heard == [("a", 1), ("b", 1)]
    assert [e.offset for e in client.events] == sorted(e.offset for e in client.events)


async def test_a_poke_is_heard_at_once(world: World) -> None:
    client = await world.listen(of_a())
    await world.journal.append(append_of("a", 0))
    world.subscriptions.notify()
    await world.pass_time(0.001)
    assert client.heard == [("a", 1)]


@pytest.mark.parametrize(("first", "heard"), [(0, [1, 2, 3, 4]), (1, [1, 2, 3, 4]), (3, [3, 4]), (4, [4])])
async def test_from_a_revision_on_it_comes_from_the_journal_and_then_live(
    world: World, first: int, heard: list[int]
) -> None:
    await world.store(append_of("a", 0, events=3))
    client = await world.listen(of_a(first_revision=Revision(first)))
    await world.store(append_of("a", 3))
    assert client.heard == [("a", revision) for revision in heard]


async def test_a_revision_to_come_is_waited_for(world: World) -> None:
    client = await world.listen(of_a(first_revision=Revision(3)))
    await world.store(append_of("a", 0, events=2))
    assert client.heard == []
    await world.store(append_of("a", 2))
    assert client.heard == [("a", 3)]


async def test_from_an_offset_on_that_one_is_not_repeated(world: World) -> None:
    await world.store(append_of("a", 0), append_of("b", 0))
    client = await world.listen(Wanted("s", after=Offset(1)))
    await world.store(append_of("a", 1))
    assert [event.offset for event in client.events] == [2, 3]
    future = await world.listen(Wanted("s", after=Offset(4)))
    await world.store(append_of("a", 2), append_of("a", 3))
    assert [event.offset for event in future.events] == [5]


async def test_long_histories_come_whole_while_more_is_stored(world: World) -> None:
    await world.store(append_of("a", 0, events=900))
    everything, entity = await asyncio.gather(
        world.listen(Wanted("s", after=Offset(0)), slow=True),
        world.listen(of_a(first_revision=Revision(1)), slow=True),
    )
    for revision in range(900, 950):
        await world.store(append_of("a", revision))
        everything.may_take.set()
        entity.may_take.set()
    await world.pass_time()
    for client in (everything, entity):
        assert [event.offset for event in client.events] == list(range(1, 951))


async def test_who_is_too_slow_is_told_so_and_can_come_back() -> None:
    world = World(SubscriptionPolicy(bounds=Bounds(events=3)))
    slow = await world.listen(of_a(), slow=True)
    quick = await world.listen(of_a())
    for revision in range(6):
        await world.store(append_of("a", revision))
    assert [revision for _, revision in quick.heard] == [1, 2, 3, 4, 5, 6]
    slow.may_take.set()
    await world.pass_time()
    assert slow.end is not None
    assert slow.end.status.code is Code.RESOURCE_EXHAUSTED
    next_revision = Revision(len(slow.events) + 1)
    again = await world.listen(of_a(first_revision=next_revision))
    assert [*slow.heard, *again.heard] == quick.heard


async def test_what_waits_is_bounded_in_bytes_too_but_one_event_of_any_size_comes() -> None:
    world = World(SubscriptionPolicy(bounds=Bounds(size=100)))
    client = await world.listen(of_a())
    await world.store(append_of("a", 0, padding=1_000))
    assert client.heard == [("a", 1)]
    slow = await world.listen(of_a(), slow=True)
    for revision in range(1, 5):
        await world.store(append_of("a", revision))
    slow.may_take.set()
    await world.pass_time()
    assert slow.end is not None


async def test_in_the_past_a_slow_client_is_no_trouble() -> None:
    world = World(SubscriptionPolicy(bounds=Bounds(events=2)))
    await world.store(append_of("a", 0, events=5))
    slow = await world.listen(of_a(first_revision=Revision(1)), slow=True)
    await world.store(append_of("a", 5, events=500))
    slow.may_take.set()
    await world.pass_time()
    assert [revision for _, revision in slow.heard] == list(range(1, 506))


async def test_ended_by_its_id_it_is_complete_and_others_go_on(world: World) -> None:
    one, other, of_all = [
        await world.listen(wanted) for wanted in (Wanted("x", A), Wanted("y", A), Wanted("x"))
    ]
    assert world.subscriptions.end(Kind.ENTITY, "x")
    assert not world.subscriptions.end(Kind.ENTITY, "nobody")
    await world.store(append_of("a", 0))
    assert (one.is_over, one.end, one.heard) == (True, None, [])
    assert other.heard == of_all.heard == [("a", 1)]


async def test_ended_while_it_reads_the_past_it_is_complete_too(world: World) -> None:
    await world.store(append_of("a", 0, events=500))
    client = await world.listen(of_a(first_revision=Revision(1)), slow=True)
    world.subscriptions.end(Kind.ENTITY, "s")
    client.may_take.set()
    await world.pass_time()
    assert client.is_over
    assert client.end is None
    assert len(client.events) < 500


async def test_draining_ends_all_and_lets_no_one_in(world: World) -> None:
    client = await world.listen(of_a())
    world.subscriptions.drain()
    late = await world.listen(of_a())
    for one in (client, late):
        assert one.end is not None
        assert one.end.status.code is Code.UNAVAILABLE


async def test_an_outage_is_a_pause(world: World) -> None:
    client = await world.listen(of_a())
    await world.store(append_of("a", 0))
    world.journal.reachable = False
    await world.pass_time(60)
    world.journal.reachable = True
    await world.store(append_of("a", 1))
    await world.pass_time(5)
    assert client.heard == [("a", 1), ("a", 2)]


async def test_without_a_journal_nobody_waits_for_ever(world: World) -> None:
    world.journal.reachable = False
    client = await world.listen(of_a())
    await world.pass_time(30)
    assert client.end is not None
    assert client.end.status.code is Code.UNAVAILABLE
    assert len(world.subscriptions) == 0


async def test_deleted_events_asked_for_by_number_are_named_missing(world: World) -> None:
    await world.store(append_of("a", 0, events=5))
    world.journal.mark_deleted(A, Revision(3))
    client = await world.listen(of_a(first_revision=Revision(2)))
    assert client.end is not None
    assert client.end.status.code is Code.OUT_OF_RANGE
    assert "revision 4" in client.end.status.message
    oldest = await world.listen(of_a(first_revision=Revision(0)))
    assert oldest.heard == [("a", 4), ("a", 5)]


async def test_when_the_journal_went_back_who_listens_is_told_what_is_lost_and_from_where_to_go_on(
    world: World,
) -> None:
    everything = await world.listen(Wanted("s", after=Offset(0)))
    a, b = await world.listen(Wanted("a", A)), await world.listen(Wanted("b", B))
    await world.store(append_of("a", 0, events=3), append_of("b", 0), append_of("a", 3, events=2))
    world.journal.go_back(Offset(5))
    # At the offset of the lost one.
    await world.store(append_of("c", 0))
    ends = [client.end for client in (everything, a, b)]
    statuses = [end.status for end in ends if end is not None]
    assert [status.code for status in statuses] == [Code.ABORTED] * 3
    of_all, of_a, of_b = statuses
    assert of_all.trailers == (("x-cos-from-offset", "5"),)
    assert "subscribe again from offset 5" in of_all.message
    assert of_a.trailers == (("x-cos-from-revision", "5"),)
    assert "subscribe again from revision 5" in of_a.message
    assert "nothing that was sent last is gone" in of_b.message
    again = await world.listen(Wanted("s", after=Offset(5)))
    await world.store(append_of("a", 4))
    assert again.heard == [("c", 1), ("a", 5)]


async def test_a_journal_that_went_back_and_is_silent_is_noticed_too(world: World) -> None:
    await world.store(append_of("a", 0, events=3))
    client = await world.listen(of_a())
    world.journal.go_back(Offset(2))
    await world.pass_time()
    assert client.end is not None
    assert client.end.status.code is Code.ABORTED


async def test_one_that_went_back_while_a_client_reads_the_past_ends_its_stream_before_anything_is_left_out(
    world: World,
) -> None:
    await world.store(append_of("a", 0, events=900))
    slow = [
        await world.listen(Wanted("s", after=Offset(0)), slow=True),
        await world.listen(of_a(first_revision=Revision(1)), slow=True),
    ]

    async def nothing(*_: object) -> JournalHead:
        raise JournalUnavailable("the tail cannot look yet")

    world.journal.head = nothing  # type: ignore[method-assign]
    world.journal.go_back(Offset(100))
    await world.store(append_of("b", 0, events=900))
    for client in slow:
        client.may_take.set()
        await world.pass_time()
        assert client.end is not None
        assert client.end.status.code is Code.ABORTED
        assert {name for name, _ in client.heard} == {"a"}


async def test_one_that_goes_back_between_two_questions_is_noticed_by_the_second(world: World) -> None:
    await world.store(append_of("a", 0, events=3))
    client, asked = await world.listen(Wanted("s")), world.journal.between

    async def between(*question: object) -> Sequence[JournaledEvent]:
        if not client.is_over and world.journal.appends[-1].entity_id == "a":
            world.journal.go_back(Offset(2))
            await world.journal.append(append_of("b", 0, events=3))
        return await asked(*question)  # type: ignore[arg-type]

    world.journal.between = between  # type: ignore[method-assign]
    await world.store(append_of("a", 3))
    assert client.events == []
    assert client.end is not None
    assert client.end.status.trailers == ()


async def test_what_was_told_too_long_ago_to_be_known_is_said_to_be_unknown(world: World) -> None:
    client = await world.listen(Wanted("s"))
    await world.store(append_of("a", 0, events=3))
    world.journal.go_back(Offset(0))
    await world.pass_time()
    assert client.end is not None
    assert client.end.status.trailers == ()
    assert "compare with what is there" in client.end.status.message


async def test_events_that_are_stored_while_the_past_is_read_are_heard_once(world: World) -> None:
    """Whenever a page of the past is on its way, the tail tells of one event that lies behind it."""
    other = await world.listen(Wanted("other"))
    await world.store(append_of("a", 0, events=3))
    asked, stored = world.journal.between, 0

    async def between(
        after: Offset, up_to: Offset, limit: int, *more: RowIdentity | None, whole: bool = False
    ) -> Sequence[JournaledEvent]:
        nonlocal stored
        page = await asked(after, up_to, limit, *more, whole=whole)
        if limit == PAGE and stored < 5:
            stored += 1
            await world.journal.append(append_of("b", stored - 1))
            while ("b", stored) not in other.heard:
                await asyncio.sleep(0)
        return page

    world.journal.between = between  # type: ignore[method-assign, assignment]
    client = await world.listen(Wanted("s", after=Offset(0)))
    await world.pass_time(2)
    assert stored > 2
    assert client.heard == other.heard


async def test_the_first_one_is_let_in_while_others_never_stop_writing(world: World) -> None:
    await world.store(append_of("a", 0))
    names = [f"w{number}" for number in range(100)]
    of_shard = [[name for name in names if append_of(name, 0).shard == shard] for shard in (0, 1)]
    writing = AsyncExitStack()
    await writing.enter_async_context(world.journal.committing_late(append_of(of_shard[0][0], 0)))
    client = await world.listen(Wanted("s"))
    for number in range(1, 7):
        # The next one has begun before the one before it ends: there is always somebody writing.
        following = AsyncExitStack()
        late = append_of(of_shard[number % 2][number], 0)
        await following.enter_async_context(world.journal.committing_late(late))
        await writing.aclose()
        writing = following
        await world.pass_time(0.02)
    assert client.is_open
    await writing.aclose()
    await world.pass_time()
    assert [event.offset for event in client.events] == [2, 3, 4, 5, 6, 7, 8]


async def test_who_begins_to_listen_waits_until_what_is_being_written_is_settled(world: World) -> None:
    async with world.journal.committing_late(append_of("a", 0)):
        await world.store(append_of("b", 0))
        client = await world.listen(Wanted("s"))
        assert not client.is_open
    await world.pass_time()
    assert client.is_open
    await world.store(append_of("a", 1))
    assert client.heard == [("a", 2)]


async def test_deleted_events_after_the_offset_asked_for_are_named_missing(world: World) -> None:
    await world.store(append_of("a", 0, events=5), append_of("b", 0))
    world.journal.delete(A, Revision(3))
    client = await world.listen(Wanted("s", after=Offset(2)))
    assert client.end is not None
    assert client.end.status.code is Code.OUT_OF_RANGE
    assert "some up to 3 are deleted" in client.end.status.message
    for after, heard in ((0, [4, 5, 6]), (3, [4, 5, 6]), (4, [5, 6])):
        client = await world.listen(Wanted("s", after=Offset(after)))
        assert [event.offset for event in client.events] == heard


async def test_streams_are_bounded_in_all_and_for_each_client() -> None:
    world = World(SubscriptionPolicy(streams=3, streams_per_client=2))
    mine = [await world.listen(Wanted(str(n), A, client="me")) for n in range(3)]
    assert [client.is_over for client in mine] == [False, False, True]
    others = [await world.listen(Wanted(str(n), A, client="you")) for n in range(2)]
    assert [client.is_over for client in others] == [False, True]
    mine[0].task.cancel()
    await world.pass_time()
    assert not (await world.listen(Wanted("again", A, client="me"))).is_over


async def test_when_the_last_one_leaves_nothing_is_read_any_more(world: World) -> None:
    for _ in range(50):
        client = await world.listen(of_a())
        client.task.cancel()
        await world.pass_time(0.001)
    assert len(world.subscriptions) == 0
    await world.pass_time()
    assert world.clock.sleepers == 0


def last_of(entity: str, expected: int) -> Append:
    """The append of an entity's last event, with which its erasure begins."""
    append = append_of(entity, expected)
    return replace(append, envelopes=(redacted(append.envelopes[0]),))


def said(client: Client) -> list[tuple[int, bool]]:
    """The entity's events that came: which revision, and whether it said anything."""
    own = [event.envelope for event in client.events if event.envelope.meta.entity_id == A]
    return [(each.meta.revision, not says_nothing(each)) for each in own]


class TestErasure:
    @pytest.mark.parametrize("wanted", [Wanted("s"), of_a()])
    async def test_what_waits_for_a_slow_client_says_nothing_any_more(
        self, world: World, wanted: Wanted
    ) -> None:
        client = await world.listen(wanted, slow=True)
        await world.store(append_of("b", 0), append_of("a", 0, events=3), append_of("b", 1))
        taken = len(client.events)
        await world.store(last_of("a", 3))
        world.journal.redact(A)
        client.may_take.set()
        await world.pass_time()
        own = [event for event in client.events[taken:] if event.envelope.meta.entity_id == A]
        assert own
        assert all(says_nothing(event.envelope) for event in own)
        assert said(client)[-1] == (4, False)
        assert [revision for revision, _ in said(client)] == [1, 2, 3, 4]
        assert ("b", 2) in client.heard or wanted.entity_id == A

    @pytest.mark.parametrize(
        "wanted",
        [Wanted("s", after=Offset(0)), of_a(first_revision=Revision(1)), of_a(first_revision=Revision(0))],
    )
    async def test_a_page_of_the_past_that_waits_for_a_slow_client_is_read_anew(
        self, world: World, wanted: Wanted
    ) -> None:
        await world.store(append_of("a", 0, events=5), append_of("b", 0), last_of("a", 5))
        client = await world.listen(wanted, slow=True)
        assert said(client) == [(1, True)]
        world.journal.redact(A)
        await world.pass_time(KNOWN_WITHIN.total_seconds() + 1)
        client.may_take.set()
        await world.store(append_of("b", 1))
        assert said(client) == [(1, True), *[(revision, False) for revision in range(2, 7)]]
        assert ("b", 2) in client.heard or wanted.entity_id == A

    async def test_a_page_that_takes_long_to_read_is_no_reason_to_read_it_for_ever(
        self, world: World
    ) -> None:
        await world.store(append_of("a", 0, events=5))
        read = world.journal.between

        async def long(*arguments: Any, **named: Any) -> Any:
            found = await read(*arguments, **named)
            await world.clock.sleep(5)
            return found

        world.journal.between = long  # type: ignore[method-assign]
        client = await world.listen(Wanted("s", after=Offset(0)))
        await world.pass_time(60)
        assert client.heard == [("a", revision) for revision in range(1, 6)]
