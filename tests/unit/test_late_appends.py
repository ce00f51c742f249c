"""Appends that land later than anyone waited for them, and what clients are told meanwhile and after."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from google.protobuf.any_pb2 import Any

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import OUTCOME_UNKNOWN, Code, HandlerFailed, OutcomeUnknown, Status
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Revision, Shard
from cos_ray.domain.messages import (
    NOTHING,
    Accepted,
    Append,
    Command,
    EntityState,
    Headers,
    Meta,
    Packed,
    Refused,
    Reply,
    TryElsewhere,
)
from cos_ray.domain.types import AcceptedTypes, EntityPolicy
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import Fault, MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity
from tests.support.journal import packed

A = EntityId("a")
TOO_LITTLE = Status(Code.FAILED_PRECONDITION, "there is too little")
EXPIRED = Status(Code.FAILED_PRECONDITION, "the offer has expired")
serials = itertools.count()


class Purse(CountingWriteHandler):
    """Command b"3" puts in three events of one each, b"0" looks, b"-2" takes out two, or refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: deque[Status | None] = deque()
        """What the next commands are refused with, one each; None: they are not."""
        self.before: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        refusal = self.refuses.popleft() if self.refuses else None
        if refusal is not None:
            raise HandlerFailed(refusal)
        self.commands.append((command, prior, headers))
        await self.before()
        amount = int(command)
        if content_of(prior.state) + amount < 0:
            raise HandlerFailed(TOO_LITTLE)
        return decide([packed("1")] * amount if amount >= 0 else [packed(str(amount))], NOTHING)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        return packed(str(content_of(prior_state) + content_of(event)))


def content_of(packed: Packed) -> int:
    """The number that a state or an event says."""
    return int(Any.FromString(packed).value or b"0")


def command(amount: int, key: str | None = None, expected: int | None = None) -> Command:
    return Command(
        A,
        Packed(str(amount).encode()),
        CommandId(f"late{next(serials)}"),
        5.0,
        key=None if key is None else IdempotencyKey(key),
        expected_revision=None if expected is None else Revision(expected),
    )


def entity(journal: MemoryJournal, handler: Purse | None = None) -> Entity:
    return Entity(A, Shard(0), handler or Purse(), journal, SystemClock())


def accepted(reply: Reply) -> tuple[int, int]:
    """Content and revision."""
    assert isinstance(reply, Accepted), reply
    return content_of(reply.state.state), reply.state.meta.revision


async def events_in(journal: MemoryJournal) -> int:
    return len(await journal.after(Shard(0), Offset(0), 100))


async def test_what_lands_after_its_command_has_ended_is_seen_by_the_next_ones() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    # The second fault is what the lock of an append that hangs looks like to the next one.
    journal.plant(Fault.UNKNOWN_AND_LATE, Fault.UNAVAILABLE)
    assert await one.process(command(3)) == Refused(OUTCOME_UNKNOWN)
    assert accepted(await one.process(command(0))) == (0, 0)
    assert await one.process(command(-2)) == Refused(TOO_LITTLE)
    assert journal.land_late() == 1
    assert accepted(await one.process(command(0))) == (3, 3)
    assert accepted(await one.process(command(-2))) == (1, 4)


async def test_what_lands_after_its_command_has_ended_is_seen_by_a_refusal_that_comes_first() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(Fault.UNKNOWN_AND_LATE, Fault.UNAVAILABLE)
    await one.process(command(3))
    await one.process(command(0))
    journal.land_late()
    assert accepted(await one.process(command(-2))) == (1, 4)


def refused(handler: Purse, journal: MemoryJournal) -> None:
    handler.refuses.extend([None, EXPIRED])


def not_understood(handler: Purse, journal: MemoryJournal) -> None:
    handler.refuses.extend([None, Status(Code.INVALID_ARGUMENT, "no")])


def unreachable(handler: Purse, journal: MemoryJournal) -> None:
    handler.refuses.extend([None, Status(Code.UNAVAILABLE, "the write handler is unreachable")])


def crashed(handler: Purse, journal: MemoryJournal) -> None:
    handler.refuses.extend([None, Status(Code.UNKNOWN, "oh")])


def refused_by_the_journal(handler: Purse, journal: MemoryJournal) -> None:
    journal.plant(Fault.REFUSED)


def journal_away(handler: Purse, journal: MemoryJournal) -> None:
    journal.plant(Fault.UNAVAILABLE)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "befall", [refused, not_understood, unreachable, crashed, refused_by_the_journal, journal_away]
)
async def test_while_an_append_is_in_doubt_whatever_befalls_the_next_try_proves_nothing(
    befall: Callable[[Purse, MemoryJournal], None], key: str | None
) -> None:
    journal, handler = MemoryJournal(), Purse()
    one = entity(journal, handler)
    journal.plant(Fault.UNKNOWN_AND_LATE)
    befall(handler, journal)
    asked = command(3, key)
    assert await one.process(asked) == Refused(OUTCOME_UNKNOWN)
    assert journal.land_late() == 1
    # Asked again, it is what it was.
    assert accepted(await one.process(replace(asked, maybe_stored=True))) == (3, 3)
    assert await events_in(journal) == 3


async def test_an_event_of_a_type_that_is_not_accepted_any_more_proves_nothing_either() -> None:
    journal = MemoryJournal()
    types = AcceptedTypes(frozenset(), frozenset())
    one = Entity(A, Shard(0), Purse(), journal, SystemClock(), EntityPolicy(types))
    assert await one.process(replace(command(1), maybe_stored=True)) == Refused(OUTCOME_UNKNOWN)


@pytest.mark.parametrize("amount", [0, -2])
async def test_a_command_that_another_copy_may_be_storing_is_not_answered_by_what_stores_nothing(
    amount: int,
) -> None:
    journal, handler = MemoryJournal(), Purse()
    # What it leads to depends on when it is run, as with an offer that expires.
    other = entity(journal)
    asked = command(2)
    journal.plant(Fault.UNKNOWN_AND_LATE, Fault.UNAVAILABLE)
    await other.process(asked)
    again = replace(asked, payload=Packed(str(amount).encode()), maybe_stored=True)
    assert await entity(journal, handler).process(again) == Refused(OUTCOME_UNKNOWN)
    assert journal.land_late() == 1


async def test_a_command_given_back_while_an_append_of_it_is_in_doubt_stays_in_doubt() -> None:
    journal = MemoryJournal()
    journal.plant(Fault.UNKNOWN_AND_LATE, Fault.CONFLICT, Fault.CONFLICT)
    assert await entity(journal).process(command(3)) == TryElsewhere(maybe_stored=True)
    assert journal.land_late() == 1


async def test_a_command_that_may_be_stored_and_does_not_get_its_turn_stays_in_doubt() -> None:
    handler = Purse()
    one = entity(MemoryJournal(), handler)
    waits = asyncio.Event()
    handler.before = waits.wait
    first = asyncio.ensure_future(one.process(command(3)))
    while not handler.commands:
        await asyncio.sleep(0)
    late = replace(command(3), budget=0.01, maybe_stored=True)
    assert await one.process(late) == Refused(OUTCOME_UNKNOWN)
    waits.set()
    assert accepted(await first) == (3, 3)


async def test_a_no_op_with_a_key_settles_what_is_in_doubt() -> None:
    journal = MemoryJournal()
    journal.plant(Fault.UNKNOWN_AND_LATE, Fault.UNAVAILABLE)
    asked = command(2, "k")
    await entity(journal).process(asked)
    no_op = replace(asked, payload=Packed(b"0"), maybe_stored=True)
    assert accepted(await entity(journal).process(no_op)) == (0, 0)
    # The journal now knows the key, and does not take what comes late.
    assert journal.land_late() == 0
    assert accepted(await entity(journal).process(asked)) == (0, 0)


@pytest.mark.parametrize(("amount", "answer"), [(0, (1, 1)), (-5, TOO_LITTLE)])
async def test_once_the_entity_is_further_on_a_lost_append_is_known_not_to_land(
    amount: int, answer: object
) -> None:
    journal, handler = MemoryJournal(), Purse()

    class Overtaking(MemoryJournal):
        """Another copy's event is stored in the moment in which an append is lost."""

        async def append(self, append: Append) -> Offset:
            try:
                return await journal.append(append)
            except OutcomeUnknown:
                handler.turn_into = amount
                assert accepted(await entity(journal).process(command(1))) == (1, 1)
                raise

        def __getattribute__(self, name: str) -> object:
            return super().__getattribute__(name) if name == "append" else getattr(journal, name)

    class Changing(Purse):
        turn_into: int | None = None

        async def handle_command(self, command: Packed, *more: object) -> Decision:  # type: ignore[override]
            if self.turn_into is not None:
                command = Packed(str(self.turn_into).encode())
            return await super().handle_command(command, *more)  # type: ignore[arg-type]

    handler = Changing()
    journal.plant(Fault.UNKNOWN_AND_LATE)
    reply = await entity(Overtaking(), handler).process(command(3))
    assert (reply.status if isinstance(reply, Refused) else accepted(reply)) == answer
    assert journal.land_late() == 0


@pytest.mark.parametrize(("expected", "is_known"), [(0, True), (1, False), (2, False)])
async def test_a_command_that_may_be_stored_and_expected_an_earlier_revision_can_be_stored_no_more(
    expected: int, is_known: bool
) -> None:
    journal, handler = MemoryJournal(), Purse()
    await entity(journal).process(command(1))
    handler.refuses.append(EXPIRED)
    reply = await entity(journal, handler).process(replace(command(1, expected=expected), maybe_stored=True))
    assert isinstance(reply, Refused)
    assert (reply.status != OUTCOME_UNKNOWN) == is_known
    if is_known:
        assert reply.status.message == "expected revision 0, actual 1"


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_command_that_may_be_stored_is_looked_up_whatever_the_clocks_say(key: str | None) -> None:
    journal, handler = MemoryJournal(), Purse()
    asked = command(2, key)
    await entity(journal).process(asked)
    await entity(journal).process(command(1))
    # Sent by the clock of its ingress an hour after it was stored by that of its entity.
    sent_at = SystemClock().now().timestamp() + 3600
    again = replace(asked, maybe_stored=True, sent_at=sent_at)
    assert accepted(await entity(journal, handler).process(again)) == (2, 2)
    assert handler.commands == []
    assert await events_in(journal) == 3


class Leaves(MemoryJournal):
    """Goes out of reach with the answer to an append of a key that it knows."""

    async def append(self, append: Append) -> Offset:
        try:
            return await super().append(append)
        finally:
            if append.key in self._keys.get(append.entity_id, ()):
                self.reachable = False


async def test_a_key_that_turns_out_to_be_known_when_it_is_appended_proves_that_something_was_stored() -> (
    None
):
    journal = Leaves()
    behind = entity(journal)
    await behind.process(command(1, "another"))
    journal.reachable = True
    await entity(journal).process(command(3, "k"))
    journal.reachable = True
    assert await behind.process(command(3, "k")) == Refused(OUTCOME_UNKNOWN)


async def test_a_key_that_is_known_here_and_cannot_be_looked_up_is_in_doubt() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    await one.process(command(3, "k"))
    journal.reachable = False
    assert await one.process(command(3, "k")) == Refused(OUTCOME_UNKNOWN)
    # Of one that is new here, another copy may have stored something; this call has not.
    unavailable = Status(Code.UNAVAILABLE, "the journal is unavailable; nothing was stored by this call")
    assert await one.process(command(3, "new")) == Refused(unavailable)
    unavailable = Status(Code.UNAVAILABLE, "the journal is unavailable; nothing was stored")
    assert await one.process(command(3)) == Refused(unavailable)


async def test_an_append_that_was_turned_away_leaves_its_key_unused_and_in_no_doubt() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    await one.process(command(1, "first"))
    for _ in range(2):
        journal.plant(Fault.UNAVAILABLE)
        reply = await one.process(command(3, "k"))
        assert isinstance(reply, Refused)
        assert reply.status.code is Code.UNAVAILABLE
    assert accepted(await one.process(command(3, "k"))) == (4, 4)


async def test_an_append_that_outlasts_its_command_and_lands_is_there_for_the_next() -> None:
    class Slow(MemoryJournal):
        let_go = asyncio.Event()
        landed = asyncio.Event()

        async def append(self, append: Append) -> Offset:
            async def land() -> Offset:
                await self.let_go.wait()
                offset = await MemoryJournal.append(self, append)
                self.landed.set()
                return offset

            return await asyncio.shield(asyncio.ensure_future(land()))

    journal = Slow()
    one = entity(journal)
    assert await one.process(replace(command(3), budget=0.05)) == Refused(OUTCOME_UNKNOWN)
    assert accepted(await one.process(command(0))) == (0, 0)
    journal.let_go.set()
    await asyncio.wait_for(journal.landed.wait(), 5)
    assert accepted(await one.process(command(-1))) == (2, 4)
