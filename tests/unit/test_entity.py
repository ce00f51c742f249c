"""One entity: its commands, its failures, and its rivals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from cos_ray.domain.errors import (
    Code,
    HandlerFailed,
    Status,
)
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import (
    EMPTY_STATE,
    Accepted,
    Command,
    EventEnvelope,
    Header,
    Packed,
    Refused,
    Reply,
    TryElsewhere,
)
from cos_ray.domain.types import AcceptedTypes, EntityPolicy
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import Fault, MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler, count_of
from cos_ray.writeside.entity import CLOCKS_APART, Entity

A = EntityId("a")
serials = itertools.count()


def command(times: int = 1, budget: float = 5.0) -> Command:
    return Command(A, Packed(str(times).encode()), CommandId(f"c{next(serials)}"), budget)


def entity(journal: MemoryJournal, handler: CountingWriteHandler | None = None) -> Entity:
    return Entity(A, Shard(0), handler or CountingWriteHandler(), journal, SystemClock())


async def count_in(journal: MemoryJournal) -> int:
    newest = await journal.newest(A)
    return count_of(newest.resulting_state) if newest else 0


def accepted(reply: Reply) -> tuple[int, int]:
    """Count and revision of the state the command led to."""
    assert isinstance(reply, Accepted), reply
    return count_of(reply.state.state), reply.state.meta.revision


def refusal(reply: Reply) -> Code:
    assert isinstance(reply, Refused), reply
    return reply.status.code


async def test_events_are_folded_in_order_and_the_last_state_is_the_reply() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    persisted = (Header("who", "me"),)
    reply = await entity(journal, handler).process(replace(command(3), persisted=persisted))
    assert accepted(reply) == (3, 3)
    assert [meta.revision for _, _, meta in handler.events] == [1, 2, 3]
    assert [prior for _, prior, _ in handler.events] == [EMPTY_STATE, b"1", b"2"]
    assert all(meta.headers == persisted and meta.date is not None for _, _, meta in handler.events)


async def test_a_command_without_events_stores_nothing_and_answers_the_state_as_it_is() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    reply = await one.process(command(0))
    assert isinstance(reply, Accepted)
    assert reply.state.state == EMPTY_STATE
    assert not reply.state.exists
    assert await journal.newest(A) is None
    await one.process(command(2))
    assert accepted(await one.process(command(0))) == (2, 2)


async def test_what_is_not_of_an_accepted_type_is_refused_and_nothing_is_stored() -> None:
    journal = MemoryJournal()
    state_type = "google.protobuf.Empty"
    for events, states, problem in ((set(), {state_type}, "event"), ({""}, set(), "state")):
        policy = EntityPolicy(AcceptedTypes(frozenset(events), frozenset(states)))
        one = Entity(A, Shard(0), CountingWriteHandler(), journal, SystemClock(), policy)
        reply = await one.process(command())
        assert reply == Refused(Status(Code.INVALID_ARGUMENT, f"invalid {problem}: "))
    assert await journal.newest(A) is None


async def test_recovery_takes_the_newest_state_and_asks_no_handler() -> None:
    journal = MemoryJournal()
    await entity(journal).process(command(5))
    handler = CountingWriteHandler()
    assert accepted(await entity(journal, handler).process(command(1))) == (6, 6)
    assert [event for event, _, _ in handler.events] == [b"+1"]


async def test_what_the_handler_refuses_reaches_the_client_as_it_is_and_the_entity_goes_on() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    status = Status(Code.FAILED_PRECONDITION, "no", b"details")
    one = entity(journal, handler)
    handler.failures.append(HandlerFailed(status))
    assert await one.process(command()) == Refused(status)
    # The second event of three fails: none of them is stored.
    handler.failures.extend([None, None, HandlerFailed(status)])
    assert await one.process(command(3)) == Refused(status)
    assert await journal.newest(A) is None
    assert accepted(await one.process(command())) == (1, 1)


async def test_commands_run_one_at_a_time_in_order_of_arrival() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    handler.gate.clear()
    running = [asyncio.ensure_future(one.process(command())) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(handler.commands) <= 1
    handler.gate.set()
    assert [accepted(reply) for reply in await asyncio.gather(*running)] == [(n, n) for n in range(1, 6)]


async def test_a_command_whose_time_ran_out_while_it_waited_is_not_run() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    handler.gate.clear()
    first = asyncio.ensure_future(one.process(command()))
    late = asyncio.ensure_future(one.process(command(budget=0.0)))
    while not handler.commands:
        await asyncio.sleep(0)
    handler.gate.set()
    assert accepted(await first) == (1, 1)
    assert refusal(await late) is Code.DEADLINE_EXCEEDED
    assert len(handler.commands) == 1


async def test_beyond_the_mailbox_commands_are_turned_away() -> None:
    handler = CountingWriteHandler()
    policy = EntityPolicy(waiting_commands=2)
    one = Entity(A, Shard(0), handler, MemoryJournal(), SystemClock(), policy)
    handler.gate.clear()
    inside = [asyncio.ensure_future(one.process(command())) for _ in range(3)]
    while not handler.commands:
        await asyncio.sleep(0)
    assert refusal(await one.process(command())) is Code.RESOURCE_EXHAUSTED
    handler.gate.set()
    assert len([accepted(reply) for reply in await asyncio.gather(*inside)]) == 3


async def test_without_the_journal_nothing_is_stored_and_the_next_command_works() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(Fault.UNAVAILABLE)
    assert refusal(await one.process(command())) is Code.UNAVAILABLE
    assert accepted(await one.process(command())) == (1, 1)


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_BUT_STORED, Fault.UNKNOWN_AND_NOT_STORED])
async def test_a_lost_append_is_settled_by_the_journal(fault: Fault) -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(fault)
    assert accepted(await one.process(command(2))) == (2, 2)
    assert await count_in(journal) == 2


async def test_a_lost_append_that_stays_lost_is_said_to_be_unknown() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(Fault.UNKNOWN_AND_NOT_STORED, Fault.UNAVAILABLE)
    assert refusal(await one.process(command())) is Code.ABORTED


async def test_a_command_sent_again_is_not_run_again() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    once = command(2)
    await entity(journal).process(once)
    await entity(journal).process(command(1))
    reply = await entity(journal, handler).process(replace(once, maybe_stored=True))
    assert accepted(reply) == (2, 2)
    assert handler.commands == []


async def test_of_two_copies_both_may_be_used_and_nothing_is_lost_or_doubled() -> None:
    journal = MemoryJournal()
    copies = [entity(journal), entity(journal)]
    for n in range(1, 11):
        assert accepted(await copies[n % 2].process(command())) == (n, n)
    assert await count_in(journal) == 10


async def test_a_copy_that_keeps_losing_gives_the_command_back() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(Fault.CONFLICT, Fault.CONFLICT)
    assert await one.process(command()) == TryElsewhere(maybe_stored=False)
    assert accepted(await one.process(command())) == (1, 1)


async def test_after_a_conflict_a_waiting_command_that_the_other_copy_ran_is_not_run_again() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    old, new = entity(journal, handler), entity(journal)
    handler.gate.clear()
    first, second = command(), command()
    waiting = [asyncio.ensure_future(old.process(each)) for each in (first, second)]
    while not handler.commands:
        await asyncio.sleep(0)
    # Given up for lost, both were sent to the new copy meanwhile.
    for each in (first, second):
        await new.process(replace(each, maybe_stored=True))
    handler.gate.set()
    assert [accepted(reply) for reply in await asyncio.gather(*waiting)] == [(1, 1), (2, 2)]
    assert await count_in(journal) == 2


async def test_a_command_long_under_way_is_not_run_again_by_a_copy_that_has_just_woken() -> None:
    # It was sent to a process that slept, given up there, and run elsewhere; then the sleeper wakes.
    journal = MemoryJournal()
    sent = replace(command(2), sent_at=SystemClock().now().timestamp())
    assert accepted(await entity(journal).process(replace(sent, maybe_stored=True))) == (2, 2)
    handler = CountingWriteHandler()
    assert accepted(await entity(journal, handler).process(sent)) == (2, 2)
    assert handler.commands == []
    assert await count_in(journal) == 2


async def test_a_command_sent_after_all_that_was_read_is_not_looked_up() -> None:
    journal = LookedUp()
    await entity(journal).process(command(1))
    one = entity(journal)
    later = SystemClock().now().timestamp() + CLOCKS_APART + 1
    assert accepted(await one.process(replace(command(1), sent_at=later))) == (2, 2)
    assert journal.lookups == 0


async def test_what_is_stored_while_a_command_is_looked_up_is_not_stored_twice() -> None:
    journal = LookedUp()
    sent = replace(command(1), maybe_stored=True)

    async def meanwhile() -> None:
        # Another copy stores it in the very moment after the journal said that it had not.
        assert accepted(await entity(journal).process(sent)) == (1, 1)

    journal.after_lookup = meanwhile
    assert accepted(await entity(journal).process(sent)) == (1, 1)
    assert await count_in(journal) == 1


class LookedUp(MemoryJournal):
    """Counts questions for a command, and lets something happen after the first one's answer."""

    lookups = 0
    after_lookup: Callable[[], Awaitable[None]] | None = None

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        self.lookups += 1
        answer = await super().stored_by(entity_id, command_id)
        happening, self.after_lookup = self.after_lookup, None
        if happening is not None:
            await happening()
        return answer
