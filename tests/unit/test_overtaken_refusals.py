"""What a copy of an entity that another has overtaken refuses, and what it must not."""

from __future__ import annotations

from dataclasses import replace

from cos_ray.domain.erasure import ERASE
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import Accepted, Command, Meta, Packed, Reply
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity
from tests.unit.test_idempotency import accepted, entity, keyed, refusal

REFUSED = Status(Code.FAILED_PRECONDITION, "no")


class RefusesCommands(CountingWriteHandler):
    """What a newer or older release of an application may do."""

    async def handle_command(self, *_: object, **__: object):  # type: ignore[no-untyped-def,override]
        raise HandlerFailed(REFUSED)


class RefusesFirstEvents(CountingWriteHandler):
    """A state that is born is none of its business."""

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        if meta.revision == 1:
            raise HandlerFailed(REFUSED)
        return await super().handle_event(event, prior_state, meta, timeout)


async def overtaken(behind: Entity, ahead: Entity, *commands: Command) -> Reply:
    """The last reply of what the copy that is ahead was given, with both awake."""
    await behind.process(keyed("of the one behind", 0))
    for command in commands:
        reply = await ahead.process(command)
    return reply


async def test_a_command_done_by_another_copy_is_not_refused_for_the_revision_it_expected() -> None:
    journal = MemoryJournal()
    behind, ahead = entity(journal), entity(journal)
    done = await overtaken(behind, ahead, keyed("first", 5), keyed("k", 1, expected=5))
    assert accepted(done) == (6, 6)
    assert await behind.process(keyed("k", 1, expected=5)) == done


async def test_a_no_op_done_by_another_copy_is_not_refused_by_this_ones_handler() -> None:
    journal = MemoryJournal()
    behind, ahead = entity(journal, RefusesCommands()), entity(journal)
    done = await overtaken(behind, ahead, keyed("k", 0))
    assert isinstance(done, Accepted)
    assert await behind.process(keyed("k", 0)) == done
    assert refusal(await behind.process(keyed("another", 0))) == REFUSED


async def test_an_entity_that_another_copy_has_made_can_be_erased() -> None:
    journal = MemoryJournal()
    behind, ahead = entity(journal), entity(journal)
    await overtaken(behind, ahead, keyed(None, 1))
    erased = await behind.process(replace(keyed(None), payload=ERASE))
    assert isinstance(erased, Accepted)
    assert erased.state.meta.revision == 2


async def test_an_event_is_not_refused_by_a_state_that_is_no_longer_the_newest() -> None:
    journal = MemoryJournal()
    behind, ahead = entity(journal, RefusesFirstEvents()), entity(journal)
    await overtaken(behind, ahead, keyed(None, 1))
    assert accepted(await behind.process(keyed(None, 1))) == (2, 2)
