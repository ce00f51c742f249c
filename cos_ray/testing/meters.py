"""Meters that remember every word."""

from __future__ import annotations

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import ReadSideId
from cos_ray.domain.read_sides import ReadSideStatus
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.domain.type_changes import Grounds


class ScriptOfMeters:
    """All meters of `cos_ray.ports` in one: what they were told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []
        """What happened, and how long it took (or how many there were); 0 where neither is told."""
        self.outcomes: list[Code | None] = []
        """Of the commands answered; None for those accepted."""
        self.in_progress = 0
        """Commands begun and not answered."""
        self.progress: dict[ReadSideId, tuple[int, float]] = {}
        """Of each read side, how many events it was last said to be behind, and how many seconds."""

    def of(self, what: str) -> list[float]:
        """The figures told of this."""
        return [figure for told, figure in self.told if told == what]

    def begun(self) -> None:
        """See `CommandMeter`."""
        self.in_progress += 1

    def answered(self, refusal: Code | None, seconds: float, /) -> None:
        """See `CommandMeter`."""
        self.in_progress -= 1
        self.outcomes.append(refusal)
        self.told.append(("answered", seconds))

    def turned_away(self, code: Code, /) -> None:
        """See `CommandMeter`."""
        self.told.append((f"turned away: {code.name}", 0.0))

    def refused(self, port: PublicPort, cause: RefusalCause, /) -> None:
        """See `CommandMeter`."""
        self.told.append((f"refused: {port.value} {cause.value}", 0.0))

    def waited(self, seconds: float, /) -> None:
        """See `EntityMeter`."""
        self.told.append(("waited", seconds))

    def recovered(self, seconds: float, /) -> None:
        """See `EntityMeter`."""
        self.told.append(("recovered", seconds))

    def handled_command(self, seconds: float, /) -> None:
        """See `EntityMeter`."""
        self.told.append(("handled command", seconds))

    def handled_event(self, seconds: float, /) -> None:
        """See `EntityMeter`."""
        self.told.append(("handled event", seconds))

    def appended(self, seconds: float, /) -> None:
        """See `EntityMeter`."""
        self.told.append(("appended", seconds))

    def conflicted(self) -> None:
        """See `EntityMeter`."""
        self.told.append(("conflicted", 0.0))

    def refused_type(self) -> None:
        """See `EntityMeter`."""
        self.told.append(("refused type", 0.0))

    def sent(self) -> None:
        """See `SubscriptionMeter`."""
        self.told.append(("sent", 0.0))

    def cut(self) -> None:
        """See `SubscriptionMeter`."""
        self.told.append(("cut", 0.0))

    def fares(self, status: ReadSideStatus, lag_events: int, lag_seconds: float, /) -> None:
        """See `ProgressMeter`."""
        self.progress[status.read_side] = (lag_events, lag_seconds)


class ScriptOfJournal:
    """A `JournalMeter` that remembers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        """How many appends each had."""
        self.failures: list[bool] = []
        """Of appends; whether they are known not to be stored."""
        self.type_changes: list[Grounds] = []
        """Why each was let pass."""

    def stored(self, appends: int, seconds: float, /) -> None:
        """See `JournalMeter`."""
        self.batches.append(appends)

    def failed(self, is_known: bool, /) -> None:
        """See `JournalMeter`."""
        self.failures.append(is_known)

    def changed_type(self, grounds: Grounds, /) -> None:
        """See `JournalMeter`."""
        self.type_changes.append(grounds)


class ScriptOfReadSide:
    """A `ReadSideMeter` that remembers."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        """Of the events confirmed, in seconds."""
        self.calls: list[float] = []
        """How long each call of the handler took, in seconds."""
        self.failures = self.retries = self.parkings = self.skips = 0

    def handled(self, seconds: float, /) -> None:
        """See `ReadSideMeter`."""
        self.calls.append(seconds)

    def delivered(self, age: float, /) -> None:
        """See `ReadSideMeter`."""
        self.ages.append(age)

    def failed(self) -> None:
        """See `ReadSideMeter`."""
        self.failures += 1

    def retried(self) -> None:
        """See `ReadSideMeter`."""
        self.retries += 1

    def parked(self) -> None:
        """See `ReadSideMeter`."""
        self.parkings += 1

    def skipped(self) -> None:
        """See `ReadSideMeter`."""
        self.skips += 1
