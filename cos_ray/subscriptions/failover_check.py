"""What subscribers are told when the journal went back: which events are gone, and from where to go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent, RowIdentity

_WHY = "the journal went back, as after a failover that lost its last events"


@dataclass(frozen=True, slots=True)
class Told:
    """An event that was told of, without what it says."""

    row: RowIdentity
    entity_id: EntityId | None = None
    revision: Revision = Revision(0)  # noqa: RUF009

    @classmethod
    def of(cls, event: JournaledEvent) -> Told | None:
        """The event, if its row is known."""
        meta = event.envelope.meta
        return None if event.row is None else cls(event.row, meta.entity_id, meta.revision)


@dataclass(frozen=True, slots=True)
class Lost:
    """Which of the events that were told of are gone."""

    after: Offset | None
    """All that was told of up to here is there; None: that is further back than anyone remembers."""
    revisions: Mapping[EntityId, Revision] = field(default_factory=dict)
    """Of each entity that lost events: the first of them."""


def lost_of(told: Sequence[Told], there: Collection[Offset]) -> Lost:
    """What is lost of these events, in the order in which they were told of; `there`: those that are not."""
    after: Offset | None = None
    is_whole = True
    revisions: dict[EntityId, Revision] = {}
    for event in told:
        if event.row.offset in there:
            after = event.row.offset if is_whole else after
            continue
        is_whole = False
        if event.entity_id is not None:
            revisions.setdefault(event.entity_id, event.revision)
    return Lost(after, revisions)


def status_of(lost: Lost, entity_id: EntityId | None) -> Status:
    """How a subscription to this entity ends, or one to all (None)."""
    if entity_id is not None and (first := lost.revisions.get(entity_id)) is not None:
        text = (
            f"{_WHY}: revisions from {first} on are gone, and will be others; "
            f"subscribe again from revision {first}"
        )
        return Status(Code.ABORTED, text, trailers=(("x-cos-from-revision", str(first)),))
    if lost.after is None:
        return WENT_BACK
    if entity_id is not None:
        text = f"{_WHY}: nothing that was sent last is gone; subscribe again with the next revision"
        return Status(Code.ABORTED, text)
    text = (
        f"{_WHY}: events after offset {lost.after} are gone, and their offsets are given to others; "
        f"subscribe again from offset {lost.after}"
    )
    return Status(Code.ABORTED, text, trailers=(("x-cos-from-offset", str(lost.after)),))


WENT_BACK = Status(
    Code.ABORTED,
    f"{_WHY}: some of what was sent is gone, and its place is given to others; compare with what is there, "
    "and subscribe again from before that",
)
"""Where nobody can say what is gone."""
