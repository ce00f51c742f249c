"""
When a state may be of another type than the one before it.

A handler that is given a state of a type it does not know mostly begins with an empty one, and does
not notice: protobuf's `Unpack` says False, and leaves the message as it was. Every event is stored
with the state it led to, so what is lost that way is lost for good. So a change of types is let pass
only if it is meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cos_ray.domain.errors import Code, Status

LONGEST_NAME = 500
"""Characters of a type's name; no longer one is remembered, and none is shown whole that is."""

_EMPTY = "google.protobuf.Empty"

_OUR_OWN = "cos_ray.v1."
"""How the names of the service's own types begin. That it uses them is no precedent for handlers."""


class OnChange(Enum):
    """What becomes of a change of types that nobody has declared."""

    REFUSE = "refuse"
    WARN = "warn"
    ALLOW = "allow"


class Grounds(Enum):
    """Why a change of types was let pass; the values are those of cos_type_changes.grounds."""

    DECLARED = "declared"
    ALLOWED = "allowed"
    WARNED = "warned"
    HELD = "held"
    """The journal held it before anybody watched."""


@dataclass(frozen=True, slots=True, order=True)
class TypeChange:
    """An entity's state is of one type, and that after its next event of another; full names."""

    old: str
    new: str

    @property
    def is_our_own(self) -> bool:
        """Whether it is the service's own doing: the entity was erased."""
        return self.new.startswith(_OUR_OWN)

    @property
    def can_be_remembered(self) -> bool:
        """Whether these are names at all, and no longer than names are."""
        return all(
            0 < len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()
            for name in (self.old, self.new)
        )


def change_of(old: str, new: str) -> TypeChange | None:
    """
    The change from a state of the one type to one of the other; None if there is none.

    An Empty is the state before the first event, and holds nothing: whatever follows it loses nothing.
    """
    return None if old in (new, _EMPTY) else TypeChange(old, new)


@dataclass(frozen=True, slots=True)
class PassedChange:
    """A change that was let pass."""

    change: TypeChange
    grounds: Grounds


@dataclass(frozen=True, slots=True)
class Precedent:
    """What the journal knows of a change."""

    is_held: bool
    """Whether some entity's events show the same change."""
    is_taken_over: bool
    """Whether the journal has events that Chief of State wrote, which watched no types."""


@dataclass(frozen=True, slots=True)
class TypePolicy:
    """Which changes are meant."""

    on_change: OnChange | None = None
    """None: refuse; on a journal taken over from Chief of State, warn."""
    states: frozenset[str] = frozenset()
    """Types that one and the same entity may have by turns."""
    renames: frozenset[TypeChange] = frozenset()
    """Declared changes, with those that follow from them (see `followed_through`)."""

    def grounds_for(self, change: TypeChange) -> Grounds | None:
        """Why it is let pass, whatever the journal knows; None: the journal has to be asked."""
        if change in self.renames or {change.old, change.new} <= self.states:
            return Grounds.DECLARED
        return Grounds.ALLOWED if self.on_change is OnChange.ALLOW else None

    def judge(self, change: TypeChange, precedent: Precedent) -> Grounds | Status:
        """Why it is let pass, or how the command ends; for a change with no other grounds."""
        if precedent.is_held and not change.is_our_own:
            return Grounds.HELD
        on_change = self.on_change or (OnChange.WARN if precedent.is_taken_over else OnChange.REFUSE)
        if on_change is OnChange.WARN:
            return Grounds.WARNED
        return refusal(change)


def refusal(change: TypeChange) -> Status:
    """How a command ends that would lead to this change."""
    return Status(
        Code.FAILED_PRECONDITION,
        f"state type changed from {_shown(change.old)} to {_shown(change.new)}; "
        "declare it (COS_TYPE_RENAMES) or set COS_TYPE_CHANGES=allow",
    )


def followed_through(renames: Iterable[TypeChange]) -> frozenset[TypeChange]:
    """
    The renames, and what several of them lead to.

    An entity that has rested through two renames, from a to b and from b to c, goes from a to c at once.
    """
    following: dict[str, set[str]] = {}
    for rename in renames:
        following.setdefault(rename.old, set()).add(rename.new)
    found = set()
    for old in following:
        reached, pending = set[str](), [old]
        while pending:
            fresh = following.get(pending.pop(), set()) - reached
            reached |= fresh
            pending += fresh
        found |= {TypeChange(old, new) for new in reached - {old}}
    return frozenset(found)


def _shown(name: str) -> str:
    if not name:
        return "(no type)"
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
