"""Which types of events and states are accepted from a write handler (as in CoS), and when one changes."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.domain.erasure import ERASED_TYPE
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import EMPTY_STATE, NOTHING, Packed
from cos_ray.domain.type_changes import TypeChange, TypePolicy, change_of

_WATCHFUL = TypePolicy()


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """The same for all entities of a service."""

    accepted_types: AcceptedTypes | None = None
    """The types of events and states to accept from the write handler; None: all."""
    waiting_commands: int = 500
    """How many commands may wait for one entity; the next are turned away."""
    type_policy: TypePolicy = _WATCHFUL
    """When a state may be of another type than the one before it."""


_TYPE_URL = 0x0A
"""How the field `type_url` of an `Any` begins; written first, if it is not empty."""

_ERASED = ERASED_TYPE.encode()


@dataclass(frozen=True, slots=True)
class AcceptedTypes:
    """The full names that are accepted; of none, nothing is."""

    events: frozenset[str]
    states: frozenset[str]

    def fault_of_event(self, event: Packed) -> Status | None:
        """The status for an event of another type."""
        return _fault("event", event, self.events)

    def fault_of_state(self, state: Packed) -> Status | None:
        """The status for a state of another type."""
        return _fault("state", state, self.states)


def fault_of_event(event: Packed, accepted: AcceptedTypes | None) -> Status | None:
    """The status for an event that no handler may decide on; `accepted`: None for any type."""
    fault = _fault_of_own("event", event)
    return accepted.fault_of_event(event) if accepted and not fault else fault


def fault_of_state(state: Packed, accepted: AcceptedTypes | None) -> Status | None:
    """The status for a state that no handler may come to; `accepted`: None for any type."""
    fault = _fault_of_own("state", state)
    return accepted.fault_of_state(state) if accepted and not fault else fault


def type_url_of(packed: Packed) -> str:
    """An `Any`'s type URL, without a look at its value; empty if it has none that can be read."""
    if not packed or packed[0] != _TYPE_URL:
        return ""
    length = shift = 0
    for place, octet in enumerate(packed[1:6], start=2):
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            return packed[place : place + length].decode("utf-8", "replace")
    return ""


def type_name_of(packed: Packed) -> str:
    """The full name of an `Any`'s type: what follows the last slash of its type URL."""
    return type_url_of(packed).rpartition("/")[2]


def change_between(prior: Packed, resulting: Packed) -> TypeChange | None:
    """The change of types from one state to the next; None if there is none (see `change_of`)."""
    if _begin_alike(prior, resulting) or prior in (EMPTY_STATE, NOTHING):
        return None
    return change_of(type_name_of(prior), type_name_of(resulting))


def _begin_alike(one: Packed, other: Packed) -> bool:
    """Whether both have the same type URL, for sure: the one comparison that nearly every event costs."""
    if len(one) < 2 or one[0] != _TYPE_URL or one[1] >= 0x80:
        return False
    return other.startswith(one[: 2 + one[1]])


def _fault_of_own(kind: str, packed: Packed) -> Status | None:
    """What a handler cannot say, for the service itself says it: that an entity is erased."""
    # Nearly always this one comparison is enough: a type URL of less than 128 bytes that ends otherwise.
    if len(packed) > 1 and packed[1] < 0x80 and not packed.endswith(_ERASED, 0, 2 + packed[1]):
        return None
    if type_name_of(packed) != ERASED_TYPE:
        return None
    return Status(Code.INVALID_ARGUMENT, f"invalid {kind}: {ERASED_TYPE} is the service's own")


def _fault(kind: str, packed: Packed, accepted: frozenset[str]) -> Status | None:
    type_url = type_url_of(packed)
    if type_name_of(packed) in accepted:
        return None
    return Status(Code.INVALID_ARGUMENT, f"invalid {kind}: {type_url}")
