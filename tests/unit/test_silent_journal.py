"""A journal that says nothing holds an entity's commands up no longer than their own time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Revision, Shard
from cos_ray.domain.messages import Accepted, Command, Packed, Refused, Reply
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity

A = EntityId("a")
QUESTIONS = ("newest", "stored_by", "keys", "remembered")
serials = itertools.count()


class SilentJournal(MemoryJournal):
    """Answers one kind of question never, until told to speak."""

    silent_about: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def never(self, *arguments: object) -> None:
        self.asked.set()
        await asyncio.Event().wait()

    def __getattribute__(self, name: str) -> object:
        if name in QUESTIONS and name == super().__getattribute__("silent_about"):
            return super().__getattribute__("never")
        return super().__getattribute__(name)


def command(budget: float) -> Command:
    return Command(A, Packed(b"1"), CommandId(f"c{next(serials)}"), budget)


def refusal(reply: Reply) -> Code:
    assert isinstance(reply, Refused), reply
    return reply.status.code


@pytest.mark.parametrize("question", QUESTIONS)
async def test_whatever_it_is_asked_the_command_ends_in_time_and_the_next_one_runs(question: str) -> None:
    journal = SilentJournal()
    await Entity(A, Shard(0), CountingWriteHandler(), journal, SystemClock()).process(
        replace(command(5.0), key=IdempotencyKey("old"))
    )
    one = Entity(A, Shard(0), CountingWriteHandler(), journal, SystemClock())
    journal.silent_about = question
    asking = replace(command(0.05), maybe_stored=True, key=IdempotencyKey("old"))
    if question == "stored_by":
        # A key that is remembered has its answer before that.
        asking = replace(asking, key=None)
    if question == "newest":
        asking = replace(asking, key=None, maybe_stored=False)
    if question == "keys":
        asking = replace(asking, maybe_stored=False)
    late = asyncio.ensure_future(one.process(asking))
    await asyncio.wait_for(journal.asked.wait(), 5)
    # The question that was asked stays without an answer.
    journal.silent_about = None
    waiting = asyncio.ensure_future(one.process(command(5.0)))
    assert refusal(await asyncio.wait_for(late, 5)) in (Code.DEADLINE_EXCEEDED, Code.ABORTED)
    reply = await asyncio.wait_for(waiting, 5)
    assert isinstance(reply, Accepted)
    assert reply.state.meta.revision == Revision(2)
