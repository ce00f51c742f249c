"""
Which command an event comes from, for traces.

The journal keeps the id of the command with each event. The id of a command that is traced begins
with its place in the trace, so that whoever reads the event, however much later, finds it there.
Ids of others never look like that: theirs, as Chief of State's, begin with more digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cos_ray.domain.ids import CommandId

_CAUSE = re.compile(r"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})/.")
"""A W3C `traceparent` (version, trace, span and flags), and the id proper."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The place in a trace from which a command comes, in the words of the W3C."""

    parent: str
    """The `traceparent`: trace, span, and whether it is sampled."""
    state: str = ""
    """The `tracestate`."""
    baggage: str = ""

    @property
    def is_sampled(self) -> bool:
        """Whether anyone records it."""
        return bool(int(self.parent[-2:], 16) & 1)


def traced_id(command_id: CommandId, trace: Trace) -> CommandId:
    """The id of a command that is part of this trace; its own again if no one records that."""
    return CommandId(f"{trace.parent}/{command_id}") if trace.is_sampled else command_id


def trace_id_of(cause: str) -> str:
    """The trace that a `traceparent` names."""
    return cause[3:35]


def cause_of(writer: str) -> str | None:
    """The `traceparent` in what the journal has as an event's writer; None if it was not traced."""
    found = _CAUSE.match(writer)
    return found[1] if found else None
