"""What an inspection of a journal found, as values that can be shown or written as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cos_ray.postgres.row_faults import Oddity, SnapshotOddity


@dataclass(slots=True)
class Odd:
    """Rows that are odd in one way."""

    what: str
    effect: str
    """What follows from it."""
    rows: int
    example: str
    """One of them."""


@dataclass(slots=True)
class ReadSideShard:
    """One read side in one shard."""

    shard: str
    offset: str | None
    """As stored; None where none is."""
    behind: int
    """How many of the shard's events come after the offset."""
    paused: bool
    fault: str = ""
    """What is wrong with the offset."""


@dataclass(slots=True)
class ReadSideReport:
    """How far a read side has come."""

    read_side: str
    is_configured: bool
    """Whether the configuration at hand has it."""
    behind: int
    shards: list[ReadSideShard]


@dataclass(slots=True)
class StateTypeChange:
    """A change of state types that the journal holds."""

    old: str
    new: str
    grounds: str
    """Why it was let pass, or `not watched`: nobody was there to ask."""
    rows: int
    """How many of the events looked at show it."""
    example: str
    """One event that does; blank where none is known."""


@dataclass(slots=True)
class Journal:
    """How much there is."""

    rows: int
    rows_are_estimated: bool
    entities: int | None
    """None: too many to count in passing."""
    newest_offset: int
    snapshots: int
    entities_with_snapshots: int
    events_of_shard: dict[str, int]


@dataclass(slots=True)
class Report:
    """All that an inspection found."""

    database: str
    schema: str
    chief_of_state_version: int | None = None
    cos_ray_steps: list[int] = field(default_factory=list)
    pending_steps: list[str] = field(default_factory=list)
    """What `serve`, or `cos-ray journal migrate`, would do to the schema first."""
    shards: int | None = None
    """With how many shards `serve` would go on; None if it cannot tell."""
    tags_unexplained: int = 0
    """How many entities among the newest rows have a tag that this number does not explain."""
    shards_are_configured: bool = False
    tags_are_judged_by: int | None = None
    """The number of shards by which tags and offsets count as odd: `shards`, or else the nearest one."""
    counts_that_explain: list[int] = field(default_factory=list)
    """The numbers of shards that explain the newest tags; the first ten of them."""
    journal: Journal | None = None
    rows_examined: int = 0
    is_complete: bool = False
    """Whether every row was looked at, or only the newest."""
    odd_rows: list[Odd] = field(default_factory=list)
    odd_snapshots: list[Odd] = field(default_factory=list)
    is_taken_over: bool = False
    """Whether Chief of State wrote to it: then, by default, changes of state types are only warned about."""
    type_changes: list[StateTypeChange] = field(default_factory=list)
    read_sides: list[ReadSideReport] = field(default_factory=list)
    waits_for: list[str] = field(default_factory=list)
    """Transactions that write to the journal now; `serve` would wait for them."""
    rights_lacking: str | None = None
    """What the role that looks would lack to serve; another one may be meant to."""
    would_start: bool = False
    reasons: list[str] = field(default_factory=list)
    """Why `serve` would not start."""


class Tally:
    """Counts odd rows by what is odd about them, and keeps an example of each."""

    def __init__(self) -> None:
        self._found: dict[Oddity | SnapshotOddity, Odd] = {}

    def count(
        self, oddities: Iterable[Oddity | SnapshotOddity], entity_id: str, sequence_number: int
    ) -> None:
        """Note what is odd about one row."""
        for oddity in oddities:
            if oddity not in self._found:
                example = f"{entity_id} at {sequence_number}"
                self._found[oddity] = Odd(oddity.text, oddity.effect, 0, example)
            self._found[oddity].rows += 1

    def result(self) -> list[Odd]:
        """Everything odd, the most frequent first."""
        return sorted(self._found.values(), key=lambda odd: -odd.rows)
