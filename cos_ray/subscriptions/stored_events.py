"""What one client wants to see from before it began to listen, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cos_ray.domain.errors import Code, EventsDeleted, Status
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.watermark import UnreadableRow
from cos_ray.ports import JournalTail
from cos_ray.subscriptions.feed import unreadable
from cos_ray.subscriptions.listener import SubscriptionEnded

PAGE = 200
"""How many events are read at once for one client."""


class StoredEvents(Protocol):
    """A reader's place in the journal, and what it wants of what comes later."""

    async def page(self, up_to: Offset) -> Sequence[JournaledEvent]:
        """
        The next events, none beyond the offset; empty when that is all.

        Raises JournalUnavailable, HistoryWentBack when the last of those before is not there any more, and
        SubscriptionEnded when what is wanted is not there.
        """
        ...

    def go_back_to(self, event: JournaledEvent) -> None:
        """Let the next page begin with this event, of the page that was answered last."""
        ...

    def wants(self, event: JournaledEvent) -> bool:
        """Whether a live event is wanted: one asked for from a later place waits for it."""
        ...


class NoStoredEvents:
    """For who wants live events only."""

    async def page(self, up_to: Offset) -> Sequence[JournaledEvent]:
        """Nothing."""
        return ()

    def go_back_to(self, event: JournaledEvent) -> None:
        """There is no page."""

    def wants(self, event: JournaledEvent) -> bool:
        """All of it."""
        return True


class StoredEventsOfAll:
    """Every entity's events after an offset."""

    def __init__(self, journal: JournalTail, after: Offset) -> None:
        self._journal = journal
        self._after = self._read = after
        self._known: RowIdentity | None = None

    async def page(self, up_to: Offset) -> Sequence[JournaledEvent]:
        """See `Past.page`."""
        if self._read >= up_to:
            return ()
        # From the very beginning on, what is left is what is wanted.
        whole = self._after > 0
        try:
            page = await self._journal.between(self._read, up_to, PAGE, self._known, whole=whole)
        except EventsDeleted as error:
            message = (
                f"of the events after offset {self._read}, some up to {error.up_to} are deleted; "
                "ask for 0 to get all that are left"
            )
            raise SubscriptionEnded(Status(Code.OUT_OF_RANGE, message)) from None
        events = _readable(page)
        self._read = events[-1].offset if events else up_to
        self._known = events[-1].row if events else self._known
        return events

    def go_back_to(self, event: JournaledEvent) -> None:
        """See `Past.go_back_to`."""
        self._read = Offset(event.offset - 1)

    def wants(self, event: JournaledEvent) -> bool:
        """See `Past.wants`."""
        return event.offset > self._after


class StoredEventsOfEntity:
    """An entity's events from a revision on; from 0 on: from the oldest there is."""

    def __init__(self, journal: JournalTail, entity_id: EntityId, first: Revision) -> None:
        self._journal = journal
        self._entity_id = entity_id
        self._first = first
        # In some journals of Chief of State the sequence number has run ahead of the revision.
        self._next = first
        self._has_begun = False
        self._known: RowIdentity | None = None

    async def page(self, up_to: Offset) -> Sequence[JournaledEvent]:
        """See `Past.page`."""
        while True:
            found = await self._journal.of_entity(self._entity_id, self._next, up_to, PAGE, self._known)
            events = _readable(found)
            if not events:
                return ()
            self._known = events[-1].row
            self._next = Revision(events[-1].envelope.sequence_number + 1)
            wanted = [event for event in events if self.wants(event)]
            if wanted:
                self._insist_on_the_first(wanted[0])
                return wanted

    def go_back_to(self, event: JournaledEvent) -> None:
        """See `Past.go_back_to`."""
        self._next = event.envelope.sequence_number

    def wants(self, event: JournaledEvent) -> bool:
        """See `Past.wants`."""
        return event.envelope.meta.revision >= self._first

    def _insist_on_the_first(self, event: JournaledEvent) -> None:
        oldest = event.envelope.meta.revision
        if not self._has_begun and 0 < self._first < oldest:
            message = f"the events before revision {oldest} are deleted; ask for that one, or for 0"
            raise SubscriptionEnded(Status(Code.OUT_OF_RANGE, message))
        self._has_begun = True


def _readable(events: Sequence[JournaledEvent | UnreadableRow]) -> Sequence[JournaledEvent]:
    """The events before the first that cannot be read. Raises SubscriptionEnded if there is none."""
    found: list[JournaledEvent] = []
    for event in events:
        if isinstance(event, UnreadableRow):
            if not found:
                raise SubscriptionEnded(unreadable(event))
            break
        found.append(event)
    return found
