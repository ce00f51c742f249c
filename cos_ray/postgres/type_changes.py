"""
Which changes of a state's type the journal holds.

They are kept in a table of their own, in which an append leaves a note behind everybody's back. What
was in the journal before is looked for when it matters, in the newest events only: there is no index
on types, and a journal may be of any size.
"""

from __future__ import annotations

import asyncio
import logging

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.messages import EventEnvelope
from cos_ray.domain.type_changes import Grounds, PassedChange, Precedent, TypeChange
from cos_ray.ports import JournalMeter
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement

logger = logging.getLogger(__name__)

LOOKED_THROUGH = (100, 1_000, 10_000)
"""How many of the newest events are looked through: few, for they may be large, then more."""

_MOST_REMEMBERED = 1_000
_CLOSE_WITHIN = 2.0


class TypeChanges:
    """Answers from what it knows, on connections that it shares."""

    def __init__(self, connections: Connections, meter: JournalMeter) -> None:
        self._connections = connections
        self._meter = meter
        self._held: set[TypeChange] = set()
        """In the journal, and noted or being noted."""
        self._is_taken_over = False
        self._searched: set[TypeChange] = set()
        """Looked for in the journal, without success."""
        self._searches: dict[TypeChange, asyncio.Task[bool]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def precedent(self, change: TypeChange) -> Precedent:
        """See `Journal.precedent`."""
        if change in self._held:
            # An application whose states have several types by turns comes here all the time.
            return Precedent(True, self._is_taken_over)
        is_name = change.can_be_remembered
        parameters = {"old": change.old, "new": change.new} if is_name else {"old": "", "new": ""}
        [row] = await self._connections.run(statement("type_change"), parameters)
        is_held, self._is_taken_over = row
        if is_name and (is_held or await self._is_found(change)):
            _add(self._held, change)
        return Precedent(change in self._held, self._is_taken_over)

    def note(self, envelope: EventEnvelope) -> None:
        """This event has landed. Returns at once, never raises."""
        passed = envelope.passed_change
        if passed is None or passed.change in self._held or not passed.change.can_be_remembered:
            return
        _add(self._held, passed.change)
        if passed.grounds is not Grounds.HELD:
            task = asyncio.create_task(self._note_later(passed, envelope), name="state type change")
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def close(self) -> None:
        """Let what is being noted be noted, for a moment."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=_CLOSE_WITHIN)
        tasks = [*self._notes, *self._searches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _note_later(self, passed: PassedChange, envelope: EventEnvelope) -> None:
        try:
            await self._note(passed, envelope.meta.entity_id, envelope.sequence_number)
        except JournalUnavailable as error:
            # The event is in the journal, so it will be found there; or the next one is noted.
            self._held.discard(passed.change)
            logger.info("a change of a state's type is noted later", extra={"reason": str(error)})

    async def _note(self, passed: PassedChange, entity_id: str | None, sequence_number: int | None) -> None:
        change, grounds = passed.change, passed.grounds
        parameters = {
            "old": change.old,
            "new": change.new,
            "grounds": grounds.value,
            "entity_id": entity_id,
            "sequence_number": sequence_number,
        }
        if not await self._connections.run(statement("note_type_change"), parameters):
            return
        # Whoever is the first of all processes tells of it.
        self._meter.changed_type(grounds)
        logger.log(
            logging.WARNING if grounds is Grounds.WARNED else logging.INFO,
            _TOLD[grounds],
            extra={
                "old_type": change.old,
                "new_type": change.new,
                "entity_id": entity_id,
                "sequence_number": sequence_number,
            },
        )

    async def _is_found(self, change: TypeChange) -> bool:
        """Whether the newest events show it; looked for once, whoever asks meanwhile waits for it."""
        if change in self._searched:
            return False
        search = self._searches.get(change)
        if search is None:
            search = self._searches[change] = asyncio.create_task(self._search(change))
            search.add_done_callback(lambda search: self._search_ended(change, search))
        return await asyncio.shield(search)

    def _search_ended(self, change: TypeChange, search: asyncio.Task[bool]) -> None:
        del self._searches[change]
        if not search.cancelled():
            search.exception()  # whoever asked may have gone

    async def _search(self, change: TypeChange) -> bool:
        for place, newest in enumerate(LOOKED_THROUGH):
            parameters = {"old": change.old, "new": change.new, "newest": newest}
            try:
                rows = await self._connections.run(statement("find_type_change"), parameters)
            except JournalUnavailable as error:
                if place == 0:
                    raise
                # So much takes too long here. What was looked through has to do.
                logger.info("fewer events were looked through for types", extra={"reason": str(error)})
                break
            for entity_id, sequence_number in rows:
                await self._note(PassedChange(change, Grounds.HELD), entity_id, sequence_number)
                return True
        _add(self._searched, change)
        return False


_TOLD = {
    Grounds.DECLARED: "a state's type changed, as declared",
    Grounds.ALLOWED: "a state's type changed, as COS_TYPE_CHANGES allows",
    Grounds.WARNED: "a state's type changed, undeclared: make sure that the handler knew the old type",
    Grounds.HELD: "a state's type changed, as it has before in this journal",
}


def _add(changes: set[TypeChange], change: TypeChange) -> None:
    """Remember it, among so many at the most: a handler may come with a new name in every event."""
    if len(changes) >= _MOST_REMEMBERED:
        changes.clear()
    changes.add(change)
