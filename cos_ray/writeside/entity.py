"""
The life of one entity: recover, handle commands one at a time, append.

Ray may run two copies of an entity for a while, and an append that seemed to fail may be stored late. The
journal's primary key decides which copy may append. This file makes sure that a copy that is behind neither
answers wrongly nor runs a command that the other copy has run: a command that stores nothing is answered
only when the journal has been asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from typing_extensions import assert_never

from cos_ray.domain.decisions import Decision, NoChange, Persist
from cos_ray.domain.doubt import Doubt
from cos_ray.domain.erasure import ERASE, ERASED, IS_ERASED, is_erased
from cos_ray.domain.errors import (
    OUTCOME_UNKNOWN,
    Code,
    EventRefused,
    HandlerFailed,
    JournalUnavailable,
    KeyKnown,
    MailboxFull,
    OutcomeUnknown,
    OutOfTime,
    RevisionConflict,
    Status,
    Withdrawn,
)
from cos_ray.domain.evolution import (
    fault_of_revision,
    next_meta,
    next_sequence_number,
    state_after,
    state_remembered,
    unborn,
)
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Shard
from cos_ray.domain.messages import (
    Accepted,
    Append,
    Command,
    EntityState,
    EventEnvelope,
    Meta,
    Packed,
    Refused,
    Reply,
    TryElsewhere,
)
from cos_ray.domain.type_changes import PassedChange, Precedent, TypeChange
from cos_ray.domain.types import EntityPolicy, change_between, fault_of_event, fault_of_state
from cos_ray.ports import Clock, EntityMeter, Journal, Unmeasured, WriteHandler
from cos_ray.writeside.idempotency_keys import MOST_READ, IdempotencyKeys
from cos_ray.writeside.mailbox import Deadline, Mailbox, time_limit
from cos_ray.writeside.refusals import no_longer_there, status_of
from cos_ray.writeside.running_command import RunningCommand
from cos_ray.writeside.type_guard import passed

logger = logging.getLogger(__name__)

CONFLICTS_PER_COMMAND = 2
"""How often a command may lose its revision to another copy before this copy gives it back."""

CLOCKS_APART = 10.0
"""
Seconds by which the clocks of two nodes may differ at most. A command is looked up before it runs if it was
sent before the newest event that was read: another copy may have stored it.
"""

OWN_OCTETS = 1500
"""What an entity takes beside its state (measured, with what its home keeps of it)."""

_ANYTHING = EntityPolicy()
_UNMEASURED = Unmeasured()

_Answer = TypeVar("_Answer")


class Entity:
    """Holds one entity's state and runs its commands, strictly one after the other."""

    # A process may be home to a hundred thousand.
    __slots__ = (
        "_clock",
        "_entity_id",
        "_handler",
        "_in_hand",
        "_journal",
        "_keys",
        "_mailbox",
        "_meter",
        "_read_up_to",
        "_shard",
        "_state",
        "_type_policy",
        "_types",
    )

    def __init__(
        self,
        entity_id: EntityId,
        shard: Shard,
        handler: WriteHandler,
        journal: Journal,
        clock: Clock,
        policy: EntityPolicy = _ANYTHING,
        meter: EntityMeter = _UNMEASURED,
    ) -> None:
        self._entity_id = entity_id
        self._shard = shard
        self._handler = handler
        self._journal = journal
        self._clock = clock
        self._types = policy.accepted_types
        self._type_policy = policy.type_policy
        self._meter = meter
        self._mailbox = Mailbox(policy.waiting_commands)
        self._in_hand: RunningCommand | None = None
        self._keys = IdempotencyKeys()
        # The newest state known to be in the journal; None until recovered.
        self._state: EntityState | None = None
        # When the newest event was made that was read from the journal, and not appended here.
        self._read_up_to = float("-inf")

    async def process(self, command: Command) -> Reply:
        """Run the command when its turn comes. Every foreseen end is a reply; nothing of it is raised."""
        begun = self._clock.monotonic()
        deadline = Deadline(self._clock, begun + command.budget)
        try:
            async with self._mailbox.turn(command.command_id, command.budget):
                self._meter.waited(self._clock.monotonic() - begun)
                self._in_hand = RunningCommand(command.command_id)
                try:
                    return await self._run(command, deadline)
                finally:
                    self._in_hand = None
        except (MailboxFull, OutOfTime, Withdrawn) as error:
            return Refused(status_of(error, command.key, in_doubt=command.maybe_stored))

    async def ready(self) -> None:
        """Return when the journal answers, which may have to be found first. Raises JournalUnavailable."""
        await self._journal.standing(self._entity_id, None)

    def withdraw(self, command_id: CommandId) -> None:
        """Drop the command, for its client has gone; what is being appended already is appended."""
        self._mailbox.withdraw(command_id)
        if self._in_hand is not None:
            self._in_hand.withdraw(command_id)

    @property
    def octets(self) -> int:
        """About how many bytes of memory the entity takes."""
        state = 0 if self._state is None else len(self._state.state)
        return OWN_OCTETS + state + self._keys.octets

    async def _run(self, command: Command, deadline: Deadline) -> Reply:
        doubt = Doubt(command)
        look_up = command.maybe_stored
        conflicts = 0
        while True:
            try:
                return await self._try(command, deadline, look_up, doubt)
            except (RevisionConflict, KeyKnown) as error:
                self._meter.conflicted()
                logger.warning(
                    "entity may have another writer",
                    extra={"entity_id": self._entity_id, "reason": repr(error)},
                )
                if isinstance(error, KeyKnown):
                    doubt.may_be_there()
                # The other copy may have been given this command, too.
                look_up = True
                conflicts += 1
                if conflicts == CONFLICTS_PER_COMMAND:
                    return TryElsewhere(bool(doubt))
            except OutcomeUnknown:
                # The journal can tell by the command's id, once it answers; the next try asks it.
                look_up = True
            except (HandlerFailed, EventRefused, JournalUnavailable, OutOfTime, Withdrawn) as error:
                return Refused(status_of(error, command.key, in_doubt=bool(doubt)))

    async def _try(self, command: Command, deadline: Deadline, look_up: bool, doubt: Doubt) -> Reply:
        """One attempt, on the state as far as it is known. What it raises stored nothing it knows of."""
        if look_up:
            # The other copy may have gone further than what is remembered here.
            self._state = None
            self._keys.forget()
        elif earlier := await self._reply_to_known_key(command.key, deadline, doubt):
            return earlier
        state = await self._expected_state(command, deadline)
        if look_up or self._may_hold(command):
            # Only now that the state is read: what is stored hereafter is not in it, and makes a conflict.
            if earlier := await self._reply_found(command, look_up, deadline):
                return earlier
            doubt.not_found(state)
        return await self._run_on(state, command, deadline, doubt)

    async def _run_on(self, state: EntityState, command: Command, deadline: Deadline, doubt: Doubt) -> Reply:
        """Let the handler decide, and store what it decides."""
        try:
            if is_erased(state):
                _insist(IS_ERASED)
            if command.payload == ERASE:
                return await self._erase(state, command, deadline)
            _insist(fault_of_revision(command.expected_revision, state.meta.revision))
            first = next_meta(state, self._clock.now(), command.persisted)
            match await self._decide(state, command, first, deadline):
                case NoChange():
                    return await self._conclude(state, command, deadline, doubt)
                case Persist() as decided:
                    envelopes = await self._fold(decided, first, state, command, deadline)
                    return Accepted(await self._append(envelopes, state, command, deadline))
                case unreachable:
                    assert_never(unreachable)
        except (HandlerFailed, EventRefused):
            # A refusal, too, has to be one of the newest state.
            await self._ensure_newest(state, command.key, deadline)
            raise
        except OutcomeUnknown:
            doubt.may_land_at(state.sequence_number)
            raise

    async def _decide(
        self, state: EntityState, command: Command, first: Meta, deadline: Deadline
    ) -> Decision:
        begun = self._clock.monotonic()
        try:
            left = deadline.left()
            return await self._ask(
                lambda: self._handler.handle_command(command.payload, state, command.propagated, left, first)
            )
        finally:
            self._meter.handled_command(self._clock.monotonic() - begun)

    async def _ask(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The handler's answer. Raises what the call does, and Withdrawn."""
        assert self._in_hand is not None
        return await self._in_hand.ask(call)

    async def _erase(self, state: EntityState, command: Command, deadline: Deadline) -> Reply:
        """Come to the last event, without asking a handler."""
        if not state.exists:
            _insist(Status(Code.NOT_FOUND, "the entity has no events"))
        meta = next_meta(state, self._clock.now(), ())
        last = EventEnvelope(ERASED, ERASED, meta, next_sequence_number(state))
        return Accepted(await self._append((last,), state, command, deadline))

    async def _reply_to_known_key(
        self, key: IdempotencyKey | None, deadline: Deadline, doubt: Doubt
    ) -> Reply | None:
        """What a command with this key was answered with, if one is known here; None if there was none."""
        if key is None:
            return None
        if not self._keys.are_read:
            await deadline.wait_for(self._read_keys())
        if self._keys.is_new(key):
            return None
        try:
            return await self._reply_to_key(key, deadline)
        except (JournalUnavailable, OutOfTime):
            if self._keys.has(key):
                doubt.may_be_there()
            raise

    async def _reply_found(self, command: Command, look_up: bool, deadline: Deadline) -> Reply | None:
        """What this command was answered with, as the journal knows; None if it does not."""
        if look_up and command.key and (earlier := await self._reply_to_key(command.key, deadline)):
            return earlier
        by_this = self._journal.stored_by(self._entity_id, command.command_id)
        stored = await deadline.wait_for(by_this)
        return None if stored is None else Accepted(state_after(stored))

    async def _reply_to_key(self, key: IdempotencyKey, deadline: Deadline) -> Reply | None:
        remembered = await deadline.wait_for(self._journal.remembered(self._entity_id, key))
        if remembered is None:
            return None
        state = state_remembered(self._entity_id, remembered)
        return Accepted(state) if state else Refused(no_longer_there(key))

    async def _expected_state(self, command: Command, deadline: Deadline) -> EntityState:
        """The newest state; before a command is refused for its revision, as the journal has it."""
        state = self._state
        if state is not None and fault_of_revision(command.expected_revision, state.meta.revision):
            # Another copy may have gone further: to where the client expects it.
            state = None
        if state is None:
            state = self._state = await deadline.wait_for(self._newest_state())
            logger.debug(
                "entity recovered", extra={"entity_id": self._entity_id, "revision": state.meta.revision}
            )
        return state

    async def _read_keys(self) -> None:
        """All keys at once; with the state, if that is wanted too: a key costs no wait of its own."""
        keys = self._journal.keys(self._entity_id, MOST_READ + 1)
        if self._state is not None:
            self._keys.learn(await keys)
            return
        # What one of them answers after the other has failed must change nothing here.
        found, state = await asyncio.gather(keys, self._newest_state())
        self._keys.learn(found)
        self._state = state

    async def _newest_state(self) -> EntityState:
        """The newest row's resulting state is the entity's state: no handler is asked."""
        begun = self._clock.monotonic()
        newest = await self._journal.newest(self._entity_id)
        self._meter.recovered(self._clock.monotonic() - begun)
        if newest is None:
            return unborn(self._entity_id)
        date = newest.meta.date
        self._read_up_to = max(self._read_up_to, date.timestamp() if date else float("inf"))
        return state_after(newest)

    async def _fold(
        self, decided: Persist, first: Meta, prior: EntityState, command: Command, deadline: Deadline
    ) -> tuple[EventEnvelope, ...]:
        """Let the handler evolve the state from event to event, in order, as far as it has not yet."""
        for event in decided.events:
            _insist(fault_of_event(event, self._types))
        envelopes = []
        foreseen = iter(decided.states)
        for event in decided.events:
            resulting = next(foreseen, None)
            # Of a state that is there already, the date is the one that the handler was told.
            date = self._clock.now() if resulting is None else first.date
            meta = next_meta(prior, date, command.persisted)
            if resulting is None:
                resulting = await self._evolve(event, prior, meta, deadline)
            _insist(fault_of_state(resulting, self._types))
            change = change_between(prior.state, resulting)
            noted = None if change is None else await self._passed(change, deadline)
            number = next_sequence_number(prior)
            envelope = EventEnvelope(event, resulting, meta, number, passed_change=noted)
            envelopes.append(envelope)
            prior = state_after(envelope)
        return tuple(envelopes)

    async def _passed(self, change: TypeChange, deadline: Deadline) -> PassedChange:
        """That the state may be of another type now. Raises HandlerFailed."""

        def ask(change: TypeChange) -> Awaitable[Precedent]:
            return deadline.wait_for(self._journal.precedent(change))

        return await passed(change, self._type_policy, ask, self._meter)

    async def _evolve(self, event: Packed, prior: EntityState, meta: Meta, deadline: Deadline) -> Packed:
        begun = self._clock.monotonic()
        try:
            left = deadline.left()
            return await self._ask(lambda: self._handler.handle_event(event, prior.state, meta, left))
        finally:
            self._meter.handled_event(self._clock.monotonic() - begun)

    async def _conclude(
        self, state: EntityState, command: Command, deadline: Deadline, doubt: Doubt
    ) -> Reply:
        """End a command without events. Where an append of it is in doubt, only its key can settle that."""
        if command.key is not None:
            return Accepted(await self._append((), state, command, deadline))
        await self._ensure_newest(state, None, deadline)
        return Refused(OUTCOME_UNKNOWN) if doubt else Accepted(state)

    async def _ensure_newest(
        self, state: EntityState, key: IdempotencyKey | None, deadline: Deadline
    ) -> None:
        """
        Make sure that the state is the newest. Raises RevisionConflict if not, for another copy has gone
        further, in this cluster or another, or an append that was given up has landed; and KeyKnown if the
        command of this key has been run, perhaps without an event.
        """
        standing = await deadline.wait_for(self._journal.standing(self._entity_id, key))
        if standing.newest != state.sequence_number:
            raise RevisionConflict(self._entity_id, state.sequence_number)
        if standing.key_is_known:
            raise KeyKnown(self._entity_id)

    async def _append(
        self, envelopes: tuple[EventEnvelope, ...], prior: EntityState, command: Command, deadline: Deadline
    ) -> EntityState:
        append = Append(
            self._entity_id, self._shard, command.command_id, prior.sequence_number, envelopes, command.key
        )
        time_left = deadline.left()
        begun = self._clock.monotonic()
        try:
            async with time_limit(time_left):
                await self._journal.append(append)
        except asyncio.TimeoutError:
            raise OutcomeUnknown from None
        finally:
            self._meter.appended(self._clock.monotonic() - begun)
        if command.key is not None:
            self._keys.add(command.key)
        # In the journal: only from here on may anyone see it.
        self._state = state_after(envelopes[-1]) if envelopes else prior
        return self._state

    def _may_hold(self, command: Command) -> bool:
        """Whether what was read from the journal may hold what the command led to elsewhere."""
        return self._read_up_to >= command.sent_at - CLOCKS_APART


def _insist(fault: Status | None) -> None:
    if fault is not None:
        raise HandlerFailed(fault)
