"""
Whatever befalls an entity, its history is what its clients were told.

Random commands go through the router to two copies of one entity: of no, one or several events,
refused, broken in every way a handler can break, with keys that come again, with right and wrong
expected revisions, over a journal that fails, with replies that get lost on their way, and clients that
go. Afterwards the history is held against what every client was told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import OUTCOME_UNKNOWN, Code, EntityLost, HandlerFailed, Status
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Revision, Shard
from cos_ray.domain.messages import (
    EMPTY_STATE,
    NOTHING,
    Accepted,
    Command,
    EntityState,
    EventEnvelope,
    Headers,
    Meta,
    Packed,
    Refused,
    Reply,
)
from cos_ray.domain.types import AcceptedTypes, EntityPolicy
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import Fault, MemoryJournal
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.router import Router
from tests.support.journal import packed

A = EntityId("a")
FAILURES = {
    "refuses": Status(Code.FAILED_PRECONDITION, "no", b"details"),
    "times out": Status(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    "is gone": Status(Code.UNAVAILABLE, "failed to connect"),
    "is garbled": Status(Code.INTERNAL, "write handler's reply is no HandleCommandResponse"),
    "has no state": Status(Code.INVALID_ARGUMENT, "event handler replied with empty state"),
}
INVALID_EVENT = Status(Code.INVALID_ARGUMENT, "invalid event: type.googleapis.com/test.Wrong")


@dataclass(frozen=True)
class Order:
    """One command, and what is to befall it."""

    events: int = 1
    failure: str | None = None
    fails_at: int = 0
    """0: HandleCommand; n: the n-th HandleEvent."""
    wrong_type: bool = False
    ahead: int = 0
    """How many states the handler says in the same trip as the events, if all goes well."""
    key: str | None = None
    expects: int | None = None
    """How far from the actual revision, as the client knows it."""
    copy: int = 0
    faults: tuple[Fault, ...] = ()
    lost: str | None = None
    """The entity's process is gone before, or after it did its work."""
    gone: int | None = None
    """After how many turns of the loop nobody waits for it any more."""


orders = st.builds(
    Order,
    events=st.integers(0, 3),
    failure=st.none() | st.none() | st.sampled_from(sorted(FAILURES)),
    fails_at=st.integers(0, 3),
    wrong_type=st.sampled_from([False] * 7 + [True]),
    ahead=st.integers(0, 3),
    key=st.none() | st.sampled_from(["x", "y"]),
    expects=st.none() | st.none() | st.sampled_from([0, 0, 0, -1, 1, 7]),
    copy=st.sampled_from([0, 0, 1]),
    faults=st.just(()) | st.lists(st.sampled_from(list(Fault)), max_size=3).map(tuple),
    lost=st.none() | st.none() | st.none() | st.sampled_from(["before", "after"]),
    gone=st.none() | st.none() | st.none() | st.integers(0, 12),
)


class ScriptedWriteHandler:
    """Does what the command says; each event carries the number of its command, each state all before."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        order = json.loads(command)
        self.ran.append(order["number"])
        await asyncio.sleep(0)
        _fail(order, 0)
        events = [packed(json.dumps({**order, "place": n})) for n in range(1, order["events"] + 1)]
        if order["wrong"] and events:
            events[-1] = Packed(events[-1].replace(b"test.Text", b"test.Wrong").replace(b"\x1d", b"\x1e", 1))
        assert first is not None
        states, state = [], prior.state
        for event in events[: order["ahead"]]:
            if order["failure"] and order["fails_at"] == told_by(event)["place"]:
                break
            state = _evolved(event, state)
            states.append(state)
        return decide(events, NOTHING, states)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        order = told_by(event)
        await asyncio.sleep(0)
        _fail(order, order["place"])
        return _evolved(event, prior_state)


def _evolved(event: Packed, prior_state: Packed) -> Packed:
    order = told_by(event)
    return Packed(prior_state + b"|%d.%d" % (order["number"], order["place"]))


def told_by(event: Packed) -> dict[str, int]:
    """What an event of the scripted handler carries."""
    return json.loads(event[event.index(b"{") :])


def _fail(order: dict[str, int | str], place: int) -> None:
    if order["failure"] and order["fails_at"] == place:
        raise HandlerFailed(FAILURES[str(order["failure"])])


@dataclass
class World:
    """Two copies of an entity over one journal, and a way to them that loses things."""

    journal: MemoryJournal = field(default_factory=MemoryJournal)
    handler: ScriptedWriteHandler = field(default_factory=ScriptedWriteHandler)

    def __post_init__(self) -> None:
        self.clock = ImpatientClock()
        self.policy = EntityPolicy(
            AcceptedTypes(frozenset({"test.Text"}), frozenset({"google.protobuf.Empty"}))
        )
        self.copies = [self._copy(), self._copy()]
        self.orders: dict[CommandId, Order] = {}
        self.told: list[tuple[Order, int, Command, Reply]] = []
        self.numbers = itertools.count(1)
        self.router = Router(self, self.journal, self.clock)

    def _copy(self) -> Entity:
        return Entity(A, Shard(0), self.handler, self.journal, self.clock, self.policy)

    async def ask(self, command: Command) -> Reply:
        """`Entities.ask`: what gets lost is lost at the first try."""
        order = self.orders[command.command_id]
        which = order.copy
        if command.maybe_stored:
            which = 0
        elif order.lost == "before":
            raise EntityLost("before")
        elif order.lost == "after":
            reply = await self.copies[which].process(command)
            self.copies[which] = self._copy()
            raise EntityLost(f"after {reply}")
        elif order.gone is not None:
            return await self._withdrawn(self.copies[which], command, order.gone)
        return await self.copies[which].process(command)

    async def _withdrawn(self, copy: Entity, command: Command, after: int) -> Reply:
        running = asyncio.ensure_future(copy.process(command))
        for _ in range(after):
            await asyncio.sleep(0)
        copy.withdraw(command.command_id)
        return await running

    async def send(self, order: Order) -> tuple[Order, int, Command, Reply]:
        number = next(self.numbers)
        newest = await self.journal.newest(A)
        revision = newest.meta.revision if newest else 0
        payload = {
            "number": number,
            "events": order.events,
            "failure": order.failure,
            "fails_at": order.fails_at,
            "wrong": order.wrong_type,
            "ahead": order.ahead,
        }
        command = Command(
            A,
            Packed(json.dumps(payload).encode()),
            CommandId(f"c{number}"),
            budget=5.0,
            key=None if order.key is None else IdempotencyKey(order.key),
            expected_revision=None if order.expects is None else Revision(max(0, revision + order.expects)),
        )
        self.orders[command.command_id] = order
        self.journal.plant(*order.faults)
        reply = await self.router.process(command)
        self.told.append((order, number, command, reply))
        return self.told[-1]

    async def history(self) -> list[EventEnvelope]:
        return [event.envelope for event in await self.journal.after(Shard(0), Offset(0), 10_000)]


class ImpatientClock(ManualClock):
    """Time passes by sleeping, so that retries come to an end."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


def state_by(history: Sequence[EventEnvelope], revision: int) -> tuple[Packed, int]:
    return (history[revision - 1].resulting_state if revision else EMPTY_STATE, revision)


def judge(history: Sequence[EventEnvelope], told: Sequence[tuple[Order, int, Command, Reply]]) -> None:
    """Fail unless the history is whole and is what each client was told."""
    stored: dict[int, list[int]] = defaultdict(list)
    prior = EMPTY_STATE
    for place, envelope in enumerate(history, start=1):
        facts = told_by(envelope.event)
        assert (envelope.sequence_number, envelope.meta.revision) == (place, place)
        assert envelope.resulting_state == prior + b"|%d.%d" % (facts["number"], facts["place"])
        stored[facts["number"]].append(place)
        prior = envelope.resulting_state
    by_key: dict[str, list[tuple[int, Reply]]] = defaultdict(list)
    for order, number, command, reply in told:
        places = stored.get(number, [])
        # All of a command's events or none, next to each other, and once.
        assert places in ([], list(range(places[0], places[0] + order.events)) if places else [])
        if order.key is not None:
            by_key[order.key].append((number, reply))
        _judge_reply(history, order, command, reply, places)
    for replies in by_key.values():
        _judge_key(stored, replies)


def _judge_reply(
    history: Sequence[EventEnvelope], order: Order, command: Command, reply: Reply, places: list[int]
) -> None:
    match reply:
        case Accepted(state):
            revision = state.meta.revision
            assert (state.state, revision) == state_by(history, revision)
            if places:
                assert revision == places[-1]
                if command.expected_revision is not None:
                    assert places[0] == command.expected_revision + 1
            elif order.key is None:
                assert order.events == 0
                if command.expected_revision is not None:
                    assert revision == command.expected_revision
        case Refused(status) if status == OUTCOME_UNKNOWN:
            pass
        case Refused(status):
            assert places == [], "refused, and stored all the same"
            _judge_status(order, command, status)
        case other:
            raise AssertionError(other)


def _judge_status(order: Order, command: Command, status: Status) -> None:
    if status.message.startswith("expected revision"):
        ((name, actual),) = status.trailers
        assert (status.code, name) == (Code.ABORTED, "x-cos-actual-revision")
        assert int(actual) != command.expected_revision
        assert status.message == f"expected revision {command.expected_revision}, actual {actual}"
    elif status == INVALID_EVENT:
        assert order.wrong_type
    elif status.code is Code.INVALID_ARGUMENT and status.message.startswith("the journal"):
        assert status.message.endswith("as planted")
    elif order.failure and status == FAILURES[order.failure]:
        pass
    elif status.code is Code.CANCELLED:
        assert order.gone is not None
    else:
        assert status.code is Code.UNAVAILABLE, status


def _judge_key(stored: dict[int, list[int]], replies: Sequence[tuple[int, Reply]]) -> None:
    """Of all commands with one key, one is in the history at most; all that were answered got its reply."""
    assert sum(number in stored for number, _ in replies) <= 1
    accepted = [reply for _, reply in replies if isinstance(reply, Accepted)]
    assert all(reply == accepted[0] for reply in accepted)
    for number, _ in replies:
        if number in stored and accepted:
            assert accepted[0].state.meta.revision == stored[number][-1]


@settings(max_examples=400, deadline=None, print_blob=True)
@given(st.lists(orders, max_size=12))
async def test_one_after_the_other_everyone_is_told_the_truth(sequence: list[Order]) -> None:
    world = World()
    for order in sequence:
        before = await world.history()
        ran = len(world.handler.ran)
        known = order.key in world.journal._keys.get(A, {})
        *_, command, reply = await world.send(order)
        world.journal.plant_nothing()
        after = await world.history()
        assert after[: len(before)] == before
        if known:
            assert after == before
            # Another copy of the entity may learn of a key when it appends, and not before.
            assert len(world.handler.ran) == ran or any(other.copy for other in sequence)
        match reply:
            case Refused(status) if status.message.startswith("expected revision"):
                assert status.trailers[0][1] == str(len(before))
            case Accepted(state) if order.key is None and order.events:
                assert state.meta.revision == len(after)
            case Refused(status) if status.code is Code.CANCELLED:
                assert after == before
        if (
            not order.faults
            and not order.lost
            and order.gone is None
            and not known
            and command.expected_revision in (None, len(before))
        ):
            _judge_undisturbed(order, before, after, reply)
            assert reply != Refused(OUTCOME_UNKNOWN)
    judge(await world.history(), world.told)


def _judge_undisturbed(
    order: Order, before: Sequence[EventEnvelope], after: Sequence[EventEnvelope], reply: Reply
) -> None:
    """Of a command that nothing befell but its handler, the reply is known to the letter."""
    at_handler = order.failure if order.fails_at == 0 or order.fails_at <= order.events else None
    if order.failure and order.fails_at == 0:
        assert reply == Refused(FAILURES[order.failure])
    elif order.wrong_type and order.events:
        assert reply == Refused(INVALID_EVENT)
    elif at_handler:
        assert reply == Refused(FAILURES[at_handler])
    else:
        assert isinstance(reply, Accepted)
        assert len(after) == len(before) + order.events
        return
    assert after == before


@settings(max_examples=400, deadline=None, print_blob=True)
@given(st.lists(st.lists(orders, min_size=1, max_size=5), max_size=4))
async def test_all_at_once_everyone_is_told_the_truth(rounds: list[list[Order]]) -> None:
    world = World()
    for round_ in rounds:
        await asyncio.gather(*map(world.send, round_))
    judge(await world.history(), world.told)
    # The entity goes on, on either copy.
    world.journal.plant_nothing()
    for copy in (0, 1):
        *_, reply = await world.send(Order(copy=copy))
        assert isinstance(reply, Accepted)
    judge(await world.history(), world.told)
