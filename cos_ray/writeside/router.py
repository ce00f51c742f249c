"""
A command's way to its entity, wherever that lives, and back.

When an entity's process dies during a command, only the journal can tell whether it was stored. So the
command is sent again under the same id, marked as perhaps stored: the entity then looks the id up in the
journal before it runs anything, and the journal's primary key stops whichever copy comes second.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from typing_extensions import assert_never

from cos_ray.domain.errors import (
    NO_ROOM,
    OUT_OF_TIME,
    OUTCOME_UNKNOWN,
    Code,
    EntityLost,
    EntityNotReached,
    EntitySilent,
    NoRoom,
    Status,
)
from cos_ray.domain.evolution import state_after, unborn
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Accepted, Command, EntityState, Refused, Reply, TryElsewhere
from cos_ray.ports import Clock, Entities, Journal
from cos_ray.writeside.refusals import nothing_stored

logger = logging.getLogger(__name__)

RETRIES = Backoff(first=timedelta(milliseconds=20), longest=timedelta(milliseconds=500))
"""How long to wait before a lost command is sent again."""


class Router:
    """Finds entities for commands, and states for questions."""

    def __init__(self, entities: Entities, journal: Journal, clock: Clock) -> None:
        self._entities = entities
        self._journal = journal
        self._clock = clock

    async def process(self, command: Command) -> Reply:
        """Run the command within its budget; never answers TryElsewhere."""
        deadline = self._clock.monotonic() + command.budget
        failures = 0
        while True:
            try:
                reply = await self._entities.ask(command)
            except EntitySilent:
                return Refused(OUTCOME_UNKNOWN if command.maybe_stored else OUT_OF_TIME)
            except NoRoom:
                # An earlier try may have been stored, though.
                return Refused(OUTCOME_UNKNOWN if command.maybe_stored else NO_ROOM)
            except EntityLost as error:
                logger.info("entity lost", extra={"entity_id": command.entity_id, "reason": str(error)})
                was_handed_over = not isinstance(error, EntityNotReached)
                command = replace(command, maybe_stored=command.maybe_stored or was_handed_over)
            else:
                again = _to_be_sent_again(command, reply)
                if again is None:
                    return reply
                command = again
            failures += 1
            wait = RETRIES.wait(failures).total_seconds()
            left = deadline - self._clock.monotonic() - wait
            if left <= 0:
                return Refused(_out_of_time(command))
            await self._clock.sleep(wait)
            command = replace(command, budget=left)

    async def state(self, entity_id: EntityId) -> EntityState:
        """
        The state after every acknowledged command; revision 0 for an entity without events.

        Read from the journal, not from the entity: another copy may have gone further, and a
        question is no reason to wake anyone. Raises JournalUnavailable.
        """
        newest = await self._journal.newest(entity_id)
        return state_after(newest) if newest else unborn(entity_id)


def _to_be_sent_again(command: Command, reply: Reply) -> Command | None:
    """The command for another try; None if the reply is the last word."""
    match reply:
        case Accepted():
            return None
        case Refused(status):
            # By its key the journal tells what became of it, once it answers again.
            in_doubt = status == OUTCOME_UNKNOWN and command.key is not None
            return replace(command, maybe_stored=True) if in_doubt else None
        case TryElsewhere(maybe_stored):
            return replace(command, maybe_stored=command.maybe_stored or maybe_stored)
        case unreachable:
            assert_never(unreachable)


def _out_of_time(command: Command) -> Status:
    if command.maybe_stored:
        return OUTCOME_UNKNOWN
    text = f"the entity could not be reached in time; {nothing_stored(command.key)}"
    return Status(Code.UNAVAILABLE, text)
