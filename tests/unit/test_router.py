"""A command's way: what happens when an entity's process is lost under it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cos_ray.domain.errors import (
    OUTCOME_UNKNOWN,
    Code,
    EntityLost,
    EntityNotReached,
    EntitySilent,
    NoRoom,
    Status,
)
from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey
from cos_ray.domain.messages import Accepted, Command, Packed, Refused, Reply, TryElsewhere
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.router import Router

A = EntityId("a")
DONE = Accepted(unborn(A))


class ImpatientClock(ManualClock):
    """Time passes by sleeping."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


@dataclass
class Scripted:
    """Entities that answer, or are lost, as told."""

    answers: deque[Reply | Exception]
    asked: list[Command] = field(default_factory=list)

    async def ask(self, command: Command) -> Reply:
        self.asked.append(command)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def outcome(*answers: Reply | Exception, key: str | None = None) -> tuple[Reply, list[Command]]:
    entities = Scripted(deque(answers))
    router = Router(entities, MemoryJournal(), ImpatientClock())
    command = Command(
        A, Packed(b"1"), CommandId("c"), budget=5.0, key=None if key is None else IdempotencyKey(key)
    )
    return await router.process(command), entities.asked


async def test_a_lost_command_is_sent_again_under_its_id_and_marked() -> None:
    reply, asked = await outcome(EntityLost("gone"), EntityLost("gone"), DONE)
    assert reply == DONE
    assert [command.maybe_stored for command in asked] == [False, True, True]
    assert {command.command_id for command in asked} == {"c"}
    assert asked[2].budget < asked[1].budget < 5.0


async def test_a_command_given_back_unstarted_is_sent_again_unmarked() -> None:
    reply, asked = await outcome(TryElsewhere(maybe_stored=False), DONE)
    assert reply == DONE
    assert [command.maybe_stored for command in asked] == [False, False]


async def test_a_command_given_back_in_doubt_stays_in_doubt() -> None:
    _, asked = await outcome(TryElsewhere(maybe_stored=True), TryElsewhere(maybe_stored=False), DONE)
    assert [command.maybe_stored for command in asked] == [False, True, True]


async def test_lost_until_its_time_is_over_its_outcome_is_unknown() -> None:
    reply, asked = await outcome(EntityLost("gone"))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.ABORTED
    assert reply.status.message.startswith("command outcome unknown")
    assert len(asked) > 5


async def test_with_a_key_an_unknown_outcome_is_asked_about_again() -> None:
    unknown = Refused(OUTCOME_UNKNOWN)
    reply, asked = await outcome(unknown, unknown, DONE, key="k")
    assert reply == DONE
    assert [command.maybe_stored for command in asked] == [False, True, True]


async def test_without_a_key_an_unknown_outcome_is_the_answer() -> None:
    reply, asked = await outcome(Refused(OUTCOME_UNKNOWN), DONE)
    assert reply == Refused(OUTCOME_UNKNOWN)
    assert len(asked) == 1


async def test_never_started_within_its_time_nothing_was_stored() -> None:
    reply, _ = await outcome(TryElsewhere(maybe_stored=False))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.UNAVAILABLE


async def test_a_command_that_was_not_handed_over_is_sent_again_unmarked() -> None:
    _, asked = await outcome(EntityNotReached("gone"), EntityLost("gone"), EntityNotReached("gone"), DONE)
    assert [command.maybe_stored for command in asked] == [False, False, True, True]
    reply, _ = await outcome(EntityNotReached("gone"))
    assert isinstance(reply, Refused)
    assert reply.status == Status(
        Code.UNAVAILABLE, "the entity could not be reached in time; nothing was stored"
    )


async def test_of_a_key_an_earlier_call_may_have_stored_something() -> None:
    reply, _ = await outcome(TryElsewhere(maybe_stored=False), key="k")
    assert isinstance(reply, Refused)
    assert reply.status.message.endswith("nothing was stored by this call")


async def test_silence_after_a_loss_leaves_the_outcome_unknown() -> None:
    reply, _ = await outcome(EntityLost("gone"), EntitySilent(A))
    assert reply == Refused(OUTCOME_UNKNOWN)


async def test_silence_is_a_missed_deadline() -> None:
    reply, asked = await outcome(EntitySilent(A))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.DEADLINE_EXCEEDED
    assert len(asked) == 1


async def test_the_state_of_an_unknown_entity_is_empty_and_wakes_nobody() -> None:
    entities = Scripted(deque([DONE]))
    router = Router(entities, MemoryJournal(), ImpatientClock())
    assert await router.state(A) == unborn(A)
    assert entities.asked == []


async def test_without_room_for_its_entity_a_command_is_turned_away_and_nothing_was_stored() -> None:
    reply, asked = await outcome(NoRoom(A))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.RESOURCE_EXHAUSTED
    # What an operator can do about it is said where it is met.
    assert "COS_ENTITY_PLACEMENT=sharded" in reply.status.message
    assert len(asked) == 1


async def test_a_command_that_was_lost_before_there_was_no_room_stays_in_doubt() -> None:
    reply, _ = await outcome(EntityLost("gone"), NoRoom(A))
    assert reply == Refused(OUTCOME_UNKNOWN)
