"""Idempotency keys and expected revisions, as an entity keeps them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Any

import pytest

from cos_ray.domain.errors import Code, HandlerFailed, OutcomeUnknown, RevisionConflict, Status
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Revision, Shard
from cos_ray.domain.messages import Accepted, Append, Command, Packed, Refused, Remembered, Reply
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import Fault, MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler, count_of
from cos_ray.writeside import entity as entity_module
from cos_ray.writeside import idempotency_keys
from cos_ray.writeside.entity import Entity

A = EntityId("a")
REFUSAL = HandlerFailed(Status(Code.FAILED_PRECONDITION, "no"))
serials = itertools.count()


class AskedJournal(MemoryJournal):
    """Counts the questions."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[str] = []

    async def newest(self, entity_id: EntityId):  # type: ignore[no-untyped-def]
        self.questions.append("newest")
        return await super().newest(entity_id)

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        self.questions.append("keys")
        return await super().keys(entity_id, limit)

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        self.questions.append("remembered")
        return await super().remembered(entity_id, key)


def keyed(key: str | None, times: int = 1, expected: int | None = None, budget: float = 5.0) -> Command:
    return Command(
        A,
        Packed(str(times).encode()),
        CommandId(f"k{next(serials)}"),
        budget,
        key=None if key is None else IdempotencyKey(key),
        expected_revision=None if expected is None else Revision(expected),
    )


def entity(journal: MemoryJournal, handler: CountingWriteHandler | None = None) -> Entity:
    return Entity(A, Shard(0), handler or CountingWriteHandler(), journal, SystemClock())


def accepted(reply: Reply) -> tuple[int, int]:
    assert isinstance(reply, Accepted), reply
    return count_of(reply.state.state), reply.state.meta.revision


def refusal(reply: Reply) -> Status:
    assert isinstance(reply, Refused), reply
    return reply.status


async def test_the_same_key_again_gives_the_original_reply_without_running_a_handler() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    first = await one.process(keyed("k", 2))
    await one.process(keyed(None, 3))
    ran = len(handler.commands)
    assert await one.process(keyed("k", 9)) == first
    assert accepted(first) == (2, 2)
    assert len(handler.commands) == ran


async def test_another_key_is_another_command() -> None:
    one = entity(MemoryJournal())
    await one.process(keyed("k"))
    assert accepted(await one.process(keyed("K"))) == (2, 2)


async def test_the_key_of_a_no_op_is_kept_and_gives_the_state_at_its_revision() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    one = entity(journal, handler)
    nothing_yet = await one.process(keyed("before", 0))
    await one.process(keyed(None, 2))
    no_op = await one.process(keyed("between", 0))
    await one.process(keyed(None, 1))
    ran = len(handler.commands)
    for _ in range(2):
        assert await one.process(keyed("before", 5)) == nothing_yet
        assert await one.process(keyed("between", 5)) == no_op
    assert isinstance(nothing_yet, Accepted)
    assert not nothing_yet.state.exists
    assert accepted(no_op) == (2, 2)
    assert len(handler.commands) == ran


async def test_of_concurrent_repetitions_one_runs_and_the_others_get_its_reply() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    replies = await asyncio.gather(*[one.process(keyed("k", 3)) for _ in range(20)])
    assert len(handler.commands) == 1
    assert [accepted(reply) for reply in replies] == [(3, 3)] * 20
    assert len(set(replies)) == 1


async def test_of_two_copies_with_one_key_the_journal_takes_one() -> None:
    journal = MemoryJournal()
    handlers = [CountingWriteHandler(), CountingWriteHandler()]
    copies = [entity(journal, handler) for handler in handlers]
    for handler in handlers:
        handler.gate.clear()
    both = [asyncio.ensure_future(copy.process(keyed("k", 2))) for copy in copies]
    while not all(handler.commands for handler in handlers):
        await asyncio.sleep(0)
    for handler in handlers:
        handler.gate.set()
    first, second = await asyncio.gather(*both)
    assert first == second
    assert accepted(first) == (2, 2)
    assert len(await journal.after(Shard(0), 0, 10)) == 2  # type: ignore[arg-type]


async def test_a_no_op_of_another_copy_under_the_same_key_is_the_reply() -> None:
    journal = MemoryJournal()
    old, new = entity(journal), entity(journal)
    await old.process(keyed("other"))
    assert accepted(await new.process(keyed("k", 0))) == (1, 1)
    # The old copy cannot know of it before it appends.
    assert accepted(await old.process(keyed("k", 4))) == (1, 1)
    assert accepted(await old.process(keyed(None, 0))) == (1, 1)


async def test_a_key_that_another_copy_had_gives_its_reply_and_not_the_newest_state() -> None:
    journal = MemoryJournal()
    old, new = entity(journal), entity(journal)
    await old.process(keyed("other"))
    first = await new.process(keyed("k", 2))
    await new.process(keyed(None, 4))
    assert await old.process(keyed("k", 5)) == first
    assert accepted(await old.process(keyed(None, 1))) == (8, 8)


async def test_a_key_survives_its_entitys_process() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    first = await entity(journal).process(keyed("k", 2))
    assert await entity(journal, handler).process(keyed("k", 2)) == first
    assert handler.commands == []


async def test_a_rejected_or_failed_command_does_not_use_up_its_key() -> None:
    journal, handler = MemoryJournal(), CountingWriteHandler()
    one = entity(journal, handler)
    handler.failures.append(REFUSAL)
    assert refusal(await one.process(keyed("k"))).code is Code.FAILED_PRECONDITION
    journal.plant(Fault.UNAVAILABLE)
    assert refusal(await one.process(keyed("k"))).code is Code.UNAVAILABLE
    assert refusal(await one.process(keyed("k", expected=3))).code is Code.ABORTED
    assert accepted(await one.process(keyed("k", 2))) == (2, 2)
    assert accepted(await one.process(keyed("k", 2))) == (2, 2)


async def test_after_its_time_a_key_is_new_again() -> None:
    journal = MemoryJournal()
    one = entity(journal)
    await one.process(keyed("k"))
    journal.expire_keys()
    assert accepted(await one.process(keyed("k"))) == (2, 2)
    assert accepted(await one.process(keyed("k"))) == (2, 2)


@pytest.mark.parametrize("events", [0, 2])
@pytest.mark.parametrize("fault", [Fault.UNKNOWN_BUT_STORED, Fault.UNKNOWN_AND_NOT_STORED])
async def test_a_lost_append_with_a_key_is_settled_by_the_journal(fault: Fault, events: int) -> None:
    journal = MemoryJournal()
    one = entity(journal)
    journal.plant(fault)
    assert accepted(await one.process(keyed("k", events))) in {(0, 0), (2, 2)}
    assert await one.process(keyed("k", 7)) == await entity(journal).process(keyed("k", 8))
    assert len(await journal.after(Shard(0), 0, 10)) == events  # type: ignore[arg-type]


async def test_the_first_sight_of_a_key_asks_the_journal_nothing() -> None:
    journal = AskedJournal()
    one = entity(journal)
    await one.process(keyed("first"))
    assert sorted(journal.questions) == ["keys", "newest"]
    journal.questions.clear()
    for number in range(50):
        await one.process(keyed(f"key {number}", number % 3))
    assert journal.questions == []


async def test_an_entity_with_more_keys_than_it_reads_looks_up_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency_keys, "MOST_READ", 3)
    monkeypatch.setattr(idempotency_keys, "MOST_HELD", 6)
    monkeypatch.setattr(entity_module, "MOST_READ", 3)
    journal, handler = AskedJournal(), CountingWriteHandler()
    one = entity(journal, handler)
    for number in range(20):
        assert accepted(await one.process(keyed(f"key {number}"))) == (number + 1, number + 1)
    for number in range(20):
        assert accepted(await one.process(keyed(f"key {number}"))) == (number + 1, number + 1)
    assert len(handler.commands) == 20
    assert journal.questions.count("keys") < 5


async def test_a_key_whose_event_is_no_longer_in_the_journal_runs_nothing() -> None:
    class Forgetful(MemoryJournal):
        async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
            return Remembered(Revision(1), None)

    handler = CountingWriteHandler()
    one = entity(Forgetful(), handler)
    await one.process(keyed("k"))
    assert refusal(await one.process(keyed("k"))).code is Code.ALREADY_EXISTS
    assert len(handler.commands) == 1


async def test_a_command_runs_at_the_revision_it_expects() -> None:
    one = entity(MemoryJournal())
    assert accepted(await one.process(keyed(None, 2, expected=0))) == (2, 2)
    assert accepted(await one.process(keyed(None, 1, expected=2))) == (3, 3)
    assert accepted(await one.process(keyed(None, 0, expected=3))) == (3, 3)


@pytest.mark.parametrize(("expected", "events"), [(3, 1), (0, 1), (9, 0)])
async def test_at_another_revision_it_is_aborted_and_told_the_actual_one(expected: int, events: int) -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    await one.process(keyed(None, 5))
    status = refusal(await one.process(keyed(None, events, expected)))
    assert status == Status(
        Code.ABORTED,
        f"expected revision {expected}, actual 5",
        trailers=(("x-cos-actual-revision", "5"),),
    )
    assert len(handler.commands) == 1


async def test_a_replay_comes_before_the_revision_check() -> None:
    one = entity(MemoryJournal())
    first = await one.process(keyed("k", 2, expected=0))
    assert await one.process(keyed("k", 2, expected=0)) == first
    assert await one.process(keyed("k", 2, expected=77)) == first


async def test_a_copy_that_was_overtaken_looks_before_it_says_where_the_entity_is() -> None:
    journal = MemoryJournal()
    old, new = entity(journal), entity(journal)
    await old.process(keyed(None, 1))
    await new.process(keyed(None, 2))
    assert refusal(await old.process(keyed(None, 1, expected=7))).message == "expected revision 7, actual 3"
    await new.process(keyed(None, 2))
    assert accepted(await old.process(keyed(None, 1, expected=5))) == (6, 6)


async def test_a_no_op_of_an_overtaken_copy_is_held_to_its_expected_revision() -> None:
    journal = MemoryJournal()
    old, new = entity(journal), entity(journal)
    await old.process(keyed(None, 1))
    await new.process(keyed(None, 2))
    assert refusal(await old.process(keyed(None, 0, expected=1))).message == "expected revision 1, actual 3"


async def test_a_command_withdrawn_while_it_waits_runs_no_handler() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    handler.gate.clear()
    running = asyncio.ensure_future(one.process(keyed(None)))
    while not handler.commands:
        await asyncio.sleep(0)
    gone = keyed(None)
    waiting = asyncio.ensure_future(one.process(gone))
    await asyncio.sleep(0)
    one.withdraw(gone.command_id)
    assert refusal(await waiting).code is Code.CANCELLED
    handler.gate.set()
    assert accepted(await running) == (1, 1)
    assert len(handler.commands) == 1


@pytest.mark.parametrize("times", [0, 1])
async def test_a_command_withdrawn_at_its_handler_call_ends_and_makes_way(times: int) -> None:
    handler, journal = CountingWriteHandler(), MemoryJournal()
    one = entity(journal, handler)
    handler.gate.clear()
    gone = keyed("k", times)
    running = asyncio.ensure_future(one.process(gone))
    while not handler.commands:
        await asyncio.sleep(0)
    following = asyncio.ensure_future(one.process(keyed(None, 2)))
    one.withdraw(gone.command_id)
    one.withdraw(gone.command_id)
    assert refusal(await running).code is Code.CANCELLED
    handler.gate.set()
    assert accepted(await following) == (2, 2)
    # Its key is free: nothing is known of it.
    assert accepted(await one.process(keyed("k", 1))) == (3, 3)


async def test_a_command_withdrawn_before_its_handler_is_called_calls_none() -> None:
    handler = CountingWriteHandler()
    gone = keyed(None, 3)

    class Slow(MemoryJournal):
        async def newest(self, entity_id: EntityId) -> Any:
            one.withdraw(gone.command_id)
            return await super().newest(entity_id)

    one = entity(Slow(), handler)
    assert refusal(await one.process(gone)).code is Code.CANCELLED
    assert not handler.commands
    assert accepted(await one.process(keyed(None, 1))) == (1, 1)


async def test_a_command_withdrawn_while_it_is_appended_is_stored() -> None:
    class Slow(MemoryJournal):
        async def append(self, append: Append) -> None:
            one.withdraw(append.command_id)
            await asyncio.sleep(0)
            await super().append(append)

    one = entity(Slow())
    assert accepted(await one.process(keyed(None, 2))) == (2, 2)


async def test_who_cancels_the_task_of_a_command_itself_has_it_cancelled() -> None:
    handler = CountingWriteHandler()
    one = entity(MemoryJournal(), handler)
    handler.gate.clear()
    running = asyncio.ensure_future(one.process(keyed(None)))
    while not handler.commands:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_journal_that_is_silent_while_the_entity_recovers_is_a_missed_deadline() -> None:
    class Silent(MemoryJournal):
        async def newest(self, entity_id: EntityId):  # type: ignore[no-untyped-def]
            await asyncio.Event().wait()

    status = refusal(await entity(Silent()).process(keyed(None, budget=0.01)))
    assert status == Status(Code.DEADLINE_EXCEEDED, "the command ran out of time")


async def test_an_append_that_does_not_end_in_time_has_an_unknown_outcome() -> None:
    class Stuck(MemoryJournal):
        async def append(self, append):  # type: ignore[no-untyped-def]
            await asyncio.Event().wait()

    status = refusal(await entity(Stuck()).process(keyed(None, budget=0.01)))
    assert status.code is Code.ABORTED
    assert status.message.startswith("command outcome unknown")


@pytest.mark.parametrize("error", [OutcomeUnknown(), RevisionConflict(A, Revision(0))])
async def test_what_a_copy_learned_in_doubt_is_read_anew(error: Exception) -> None:
    journal = AskedJournal()
    one = entity(journal)
    await one.process(keyed("k"))
    rival = entity(journal)
    await rival.process(keyed("of the rival"))
    journal.plant(Fault.UNKNOWN_AND_NOT_STORED if isinstance(error, OutcomeUnknown) else Fault.CONFLICT)
    assert accepted(await one.process(keyed("mine"))) == (3, 3)
    assert accepted(await one.process(keyed("of the rival"))) == (2, 2)
