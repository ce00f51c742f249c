"""
The life of one entity: recover, handle commands one at a time, append.

There may be two copies of an entity for a while, for Ray keeps a name unique only as long as
all goes well. The journal's key decides between them; this file sees to it that the copy that
loses neither answers wrongly nor runs a command that the other has run.
"""

from __future__ import annotations

import asyncio
import logging

from typing_extensions import assert_never

from cos_ray.domain.decisions import NoChange, Persist
from cos_ray.domain.errors import (
    OUTCOME_UNKNOWN,
    Code,
    EventRefused,
    HandlerFailed,
    JournalUnavailable,
    MailboxFull,
    OutcomeUnknown,
    RevisionConflict,
    Status,
)
from cos_ray.domain.evolution import next_meta, next_sequence_number, state_after, unborn
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import (
    Accepted,
    Append,
    Command,
    EntityState,
    EventEnvelope,
    Packed,
    Refused,
    Reply,
    TryElsewhere,
)
from cos_ray.ports import Clock, Journal, WriteHandler
from cos_ray.writeside.mailbox import Mailbox

logger = logging.getLogger(__name__)

MAILBOX_CAPACITY = 500
"""How many commands may wait for one entity."""

CONFLICTS_PER_COMMAND = 2
"""How often a command may lose its revision to another copy before this copy gives it back."""

CONTESTED_FOR = 60.0
"""
Seconds after a conflict in which every command is looked up in the journal before it runs: the
other copy may have been given it too. Far longer than any command lives.
"""

_PROVES_NOTHING = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED}
)


class Entity:
    """Holds one entity's state and runs its commands, strictly one after the other."""

    def __init__(
        self, entity_id: EntityId, shard: Shard, handler: WriteHandler, journal: Journal, clock: Clock
    ) -> None:
        self._entity_id = entity_id
        self._shard = shard
        self._handler = handler
        self._journal = journal
        self._clock = clock
        self._mailbox = Mailbox(MAILBOX_CAPACITY)
        self._state: EntityState | None = None
        """The newest state known to be in the journal; None until recovered."""
        self._contested_until = 0.0

    async def process(self, command: Command) -> Reply:
        """Run the command when its turn comes. Every way it can end is a reply; nothing is raised."""
        deadline = self._clock.monotonic() + command.budget
        try:
            async with self._mailbox.turn():
                return await self._run(command, deadline)
        except MailboxFull:
            return Refused(Status(Code.RESOURCE_EXHAUSTED, "too many commands wait for this entity"))

    async def _run(self, command: Command, deadline: float) -> Reply:
        maybe_stored = command.maybe_stored
        conflicts = 0
        while True:
            try:
                return await self._try(command, deadline, maybe_stored or self._is_contested())
            except RevisionConflict:
                logger.warning("entity has another writer", extra={"entity_id": self._entity_id})
                self._contested_until = self._clock.monotonic() + CONTESTED_FOR
                conflicts += 1
                if conflicts == CONFLICTS_PER_COMMAND:
                    return TryElsewhere(maybe_stored)
            except OutcomeUnknown:
                # The journal can tell by the command's id, once it answers; the next try asks it.
                maybe_stored = True
            except (HandlerFailed, EventRefused, JournalUnavailable) as error:
                return Refused(_status_of(error, maybe_stored))

    async def _try(self, command: Command, deadline: float, look_up: bool) -> Reply:
        """One attempt, on the state as far as it is known. What it raises stored nothing it knows of."""
        if look_up:
            # The other copy may have gone further than what is remembered here.
            self._state = None
        state = await self._recovered()
        if look_up:
            stored = await self._journal.stored_by(self._entity_id, command.command_id)
            if stored is not None:
                return Accepted(state_after(stored))
        decision = await self._handler.handle_command(
            command.payload, state, command.propagated, self._time_left(deadline)
        )
        match decision:
            case NoChange():
                return Accepted(state)
            case Persist(events):
                envelopes = await self._fold(events, state, command, deadline)
                return Accepted(await self._append(envelopes, state, command, deadline))
            case unreachable:
                assert_never(unreachable)

    async def _recovered(self) -> EntityState:
        """The newest row's resulting state is the entity's state: no handler is asked."""
        if self._state is None:
            newest = await self._journal.newest(self._entity_id)
            self._state = state_after(newest) if newest else unborn(self._entity_id)
            logger.debug(
                "entity recovered",
                extra={"entity_id": self._entity_id, "revision": self._state.meta.revision},
            )
        return self._state

    async def _fold(
        self, events: tuple[Packed, ...], prior: EntityState, command: Command, deadline: float
    ) -> tuple[EventEnvelope, ...]:
        """Let the handler evolve the state from event to event, in order."""
        envelopes = []
        for event in events:
            meta = next_meta(prior, self._clock.now(), command.persisted)
            resulting = await self._handler.handle_event(event, prior.state, meta, self._time_left(deadline))
            envelope = EventEnvelope(event, resulting, meta, next_sequence_number(prior))
            envelopes.append(envelope)
            prior = state_after(envelope)
        return tuple(envelopes)

    async def _append(
        self, envelopes: tuple[EventEnvelope, ...], prior: EntityState, command: Command, deadline: float
    ) -> EntityState:
        append = Append(self._entity_id, self._shard, command.command_id, prior.sequence_number, envelopes)
        time_left = self._time_left(deadline)
        # Whatever interrupts the append, the state is read anew before anything is built on it.
        self._state = None
        try:
            await asyncio.wait_for(self._journal.append(append), time_left)
        except asyncio.TimeoutError:
            raise OutcomeUnknown from None
        # In the journal: only from here on may anyone see it.
        self._state = state_after(envelopes[-1])
        return self._state

    def _is_contested(self) -> bool:
        return self._clock.monotonic() < self._contested_until

    def _time_left(self, deadline: float) -> float:
        """Seconds until the deadline; raises HandlerFailed when there is no time for another call."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise HandlerFailed(Status(Code.DEADLINE_EXCEEDED, "the command ran out of time"))
        return left


def _status_of(error: HandlerFailed | EventRefused | JournalUnavailable, maybe_stored: bool) -> Status:
    match error:
        case HandlerFailed():
            status = error.status
        case EventRefused():
            status = Status(Code.INVALID_ARGUMENT, f"the journal cannot take the event: {error}")
        case JournalUnavailable():
            status = Status(Code.UNAVAILABLE, "the journal is unavailable")
        case unreachable:
            assert_never(unreachable)
    # A handler that refuses a second run has seen another state, and on another state the first
    # run's events can no longer land. Trouble on the way to an answer proves no such thing.
    return OUTCOME_UNKNOWN if maybe_stored and status.code in _PROVES_NOTHING else status
