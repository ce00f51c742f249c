"""
The circuit breaker: after failures in a row no call is let through for a while, then one is tried.

A state machine in values: each function takes the circuit as it is and the time, in seconds of a
clock that never goes back, and answers with the circuit as it is then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from typing_extensions import assert_never

from cos_ray.domain.errors import Code

COUNTED = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN})
"""The codes of a handler in trouble (as in the contract). Every other one is an answer."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens, and for how long."""

    max_failures: int = 5
    """How many failures in a row open it."""
    call_timeout: timedelta = timedelta(minutes=1)
    """How long a call may take before it counts as failed."""
    reset_timeout: timedelta = timedelta(minutes=1)
    """How long it stays open before one call is tried."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls go through."""

    failures: int = 0
    """How many in a row have failed."""


@dataclass(frozen=True, slots=True)
class Open:
    """No call goes through before this time."""

    until: float


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One call is being tried, and no other goes through."""


Circuit: TypeAlias = Closed | Open | HalfOpen


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call goes through, and what the circuit is from then on."""

    circuit: Circuit
    is_admitted: bool
    is_trial: bool = False
    """Whether on this call alone depends how the circuit goes on."""


def admit(circuit: Circuit, now: float) -> Admission:
    """Ask for a call to go through."""
    match circuit:
        case Closed():
            return Admission(circuit, is_admitted=True)
        case Open(until):
            if now < until:
                return Admission(circuit, is_admitted=False)
            return Admission(HalfOpen(), is_admitted=True, is_trial=True)
        case HalfOpen():
            return Admission(circuit, is_admitted=False)
        case unreachable:
            assert_never(unreachable)


def after_answer(circuit: Circuit, is_trial: bool) -> Circuit:
    """
    The circuit after a call that was answered, be it with a refusal.

    Calls begun before the circuit opened say nothing about the handler as it is now.
    """
    return Closed() if is_trial or isinstance(circuit, Closed) else circuit


def after_failure(circuit: Circuit, is_trial: bool, policy: BreakerPolicy, now: float) -> Circuit:
    """The circuit after a call that failed with one of the codes COUNTED."""
    opened = Open(now + policy.reset_timeout.total_seconds())
    if is_trial:
        return opened
    match circuit:
        case Closed(failures):
            return opened if failures + 1 >= policy.max_failures else Closed(failures + 1)
        case Open() | HalfOpen():
            return circuit
        case unreachable:
            assert_never(unreachable)


def after_abandonment(circuit: Circuit, is_trial: bool, now: float) -> Circuit:
    """The circuit after a call that nobody waited for: a trial is left to the next one."""
    return Open(now) if is_trial else circuit
