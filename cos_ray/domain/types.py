"""Which types of events and states are accepted from a write handler (as in CoS)."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import Packed

_TYPE_URL = 0x0A
"""How the field `type_url` of an `Any` begins; written first, if it is not empty."""


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


def _fault(kind: str, packed: Packed, accepted: frozenset[str]) -> Status | None:
    type_url = type_url_of(packed)
    if type_url.rpartition("/")[2] in accepted:
        return None
    return Status(Code.INVALID_ARGUMENT, f"invalid {kind}: {type_url}")
