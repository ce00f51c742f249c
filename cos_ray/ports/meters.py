"""
What the flows tell of their work, for metrics: how often, and how long it took, in seconds.

A command passes here half a dozen times, so an implementation must return at once, in about a
microsecond, and never raise. Nothing told names an entity.
"""

from __future__ import annotations

from typing import Protocol

from cos_ray.domain.errors import Code
from cos_ray.domain.read_sides import ReadSideStatus
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.domain.type_changes import Grounds


class CommandMeter(Protocol):
    """Commands as their clients see them."""

    def begun(self) -> None:
        """A command has come in; `answered` follows, whatever becomes of it."""
        ...

    def answered(self, refusal: Code | None, seconds: float, /) -> None:
        """A command was answered: refused with this code, or accepted (None)."""
        ...

    def turned_away(self, code: Code, /) -> None:
        """A request of any kind was not let in."""
        ...

    def refused(self, port: PublicPort, cause: RefusalCause, /) -> None:
        """A connection or a request was not taken in."""
        ...


class EntityMeter(Protocol):
    """Where a command's time goes in its entity. Told also of what failed: it took its time, too."""

    def waited(self, seconds: float, /) -> None:
        """For the command's turn, behind others of its entity."""
        ...

    def recovered(self, seconds: float, /) -> None:
        """The newest state was read from the journal."""
        ...

    def handled_command(self, seconds: float, /) -> None:
        """The write handler has decided."""
        ...

    def handled_event(self, seconds: float, /) -> None:
        """The write handler has evolved the state by one event."""
        ...

    def appended(self, seconds: float, /) -> None:
        """The journal has answered an append, the wait for company included."""
        ...

    def conflicted(self) -> None:
        """Another copy of the entity was faster."""
        ...

    def refused_type(self) -> None:
        """A command was refused, for it would have led to a state of another type that nobody declared."""
        ...


class JournalMeter(Protocol):
    """Batches on their way to the database."""

    def stored(self, appends: int, seconds: float, /) -> None:
        """A batch of so many appends was answered, well or not."""
        ...

    def failed(self, is_known: bool, /) -> None:
        """An append failed for the database's sake; `is_known`: surely nothing of it is stored."""
        ...

    def changed_type(self, grounds: Grounds, /) -> None:
        """The journal holds a change of a state's type that it did not hold before."""
        ...


class ReadSideMeter(Protocol):
    """One read side's deliveries."""

    def handled(self, seconds: float, /) -> None:
        """The read handler has answered a call, well or not."""
        ...

    def delivered(self, age: float, /) -> None:
        """An event was confirmed, so many seconds after it was made."""
        ...

    def failed(self) -> None:
        """A call was not confirmed."""
        ...

    def retried(self) -> None:
        """An event that was not confirmed is delivered again."""
        ...

    def parked(self) -> None:
        """An event was set aside."""
        ...

    def skipped(self) -> None:
        """An event was stepped over."""
        ...


class ProgressMeter(Protocol):
    """How far behind read sides are."""

    def fares(self, status: ReadSideStatus, lag_events: int, lag_seconds: float, /) -> None:
        """So it is now: so many events are not delivered, the oldest of which has waited so long."""
        ...


class SubscriptionMeter(Protocol):
    """What goes out on streams."""

    def sent(self) -> None:
        """An event was handed to a client."""
        ...

    def cut(self) -> None:
        """A client did not take its events in time, and was cut off."""
        ...


class Unmeasured:
    """The meters of commands, entities and subscriptions, for who does not look."""

    def begun(self) -> None:
        """See `CommandMeter.begun`."""

    def answered(self, refusal: Code | None, seconds: float, /) -> None:
        """See `CommandMeter.answered`."""

    def turned_away(self, code: Code, /) -> None:
        """See `CommandMeter.turned_away`."""

    def refused(self, port: PublicPort, cause: RefusalCause, /) -> None:
        """See `CommandMeter.refused`."""

    def waited(self, seconds: float, /) -> None:
        """See `EntityMeter.waited`."""

    def recovered(self, seconds: float, /) -> None:
        """See `EntityMeter.recovered`."""

    def handled_command(self, seconds: float, /) -> None:
        """See `EntityMeter.handled_command`."""

    def handled_event(self, seconds: float, /) -> None:
        """See `EntityMeter.handled_event`."""

    def appended(self, seconds: float, /) -> None:
        """See `EntityMeter.appended`."""

    def conflicted(self) -> None:
        """See `EntityMeter.conflicted`."""

    def refused_type(self) -> None:
        """See `EntityMeter.refused_type`."""

    def sent(self) -> None:
        """See `SubscriptionMeter.sent`."""

    def cut(self) -> None:
        """See `SubscriptionMeter.cut`."""


class UnmeasuredJournal:
    """A `JournalMeter` for who does not look."""

    def stored(self, appends: int, seconds: float, /) -> None:
        """See `JournalMeter.stored`."""

    def failed(self, is_known: bool, /) -> None:
        """See `JournalMeter.failed`."""

    def changed_type(self, grounds: Grounds, /) -> None:
        """See `JournalMeter.changed_type`."""


class UnmeasuredReadSide:
    """A `ReadSideMeter` for who does not look."""

    def handled(self, seconds: float, /) -> None:
        """See `ReadSideMeter.handled`."""

    def delivered(self, age: float, /) -> None:
        """See `ReadSideMeter.delivered`."""

    def failed(self) -> None:
        """See `ReadSideMeter.failed`."""

    def retried(self) -> None:
        """See `ReadSideMeter.retried`."""

    def parked(self) -> None:
        """See `ReadSideMeter.parked`."""

    def skipped(self) -> None:
        """See `ReadSideMeter.skipped`."""
