"""The flows' meters (`cos_ray.ports.meters`) over a process's counters."""

from __future__ import annotations

from collections.abc import Callable

from cos_ray.domain.circuit_breaker import Circuit, Closed
from cos_ray.domain.errors import Code
from cos_ray.domain.read_sides import ReadSideStatus, ShardState
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.domain.type_changes import Grounds
from cos_ray.telemetry import catalogue
from cos_ray.telemetry.meters import Counter, Meters

ACCEPTED = "accepted"
"""The outcome of a command that was not refused; the others are gRPC's codes in small letters."""

_FOR_EVERY_START = (Code.INVALID_ARGUMENT, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL)
"""Outcomes shown as 0 from the beginning, so that their first occurrence is seen as a rise."""


class CommandRecorder:
    """A `CommandMeter`."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._in_progress = meters.gauge(catalogue.IN_PROGRESS)
        self._total = meters.histogram(catalogue.STAGE_SECONDS, "total").observe
        self._outcomes: dict[Code | None, Counter] = {None: meters.counter(catalogue.COMMANDS, ACCEPTED)}
        for code in _FOR_EVERY_START:
            self._outcome(code)
        self._turned_away = {
            code: meters.counter(catalogue.TURNED_AWAY, _name(code)) for code in (Code.RESOURCE_EXHAUSTED,)
        }
        for port in PublicPort:
            for cause in RefusalCause:
                meters.counter(catalogue.REFUSALS, port.value, cause.value)

    def begun(self) -> None:
        """See `CommandMeter.begun`."""
        self._in_progress.value += 1

    def answered(self, refusal: Code | None, seconds: float, /) -> None:
        """See `CommandMeter.answered`."""
        self._in_progress.value -= 1
        self._total(seconds)
        counter = self._outcomes.get(refusal) or self._outcome(refusal)
        counter.value += 1

    def turned_away(self, code: Code, /) -> None:
        """See `CommandMeter.turned_away`."""
        counter = self._turned_away.get(code)
        if counter is None:
            counter = self._turned_away[code] = self._meters.counter(catalogue.TURNED_AWAY, _name(code))
        counter.value += 1

    def refused(self, port: PublicPort, cause: RefusalCause, /) -> None:
        """See `CommandMeter.refused`."""
        self._meters.counter(catalogue.REFUSALS, port.value, cause.value).value += 1

    def _outcome(self, refusal: Code | None) -> Counter:
        name = ACCEPTED if refusal is None else _name(refusal)
        counter = self._outcomes[refusal] = self._meters.counter(catalogue.COMMANDS, name)
        return counter


class EntityRecorder:
    """An `EntityMeter`; its methods are the counters' own, for every step of every command comes here."""

    __slots__ = (
        "appended",
        "conflicted",
        "handled_command",
        "handled_event",
        "recovered",
        "refused_type",
        "waited",
    )

    def __init__(self, meters: Meters) -> None:
        def stage(name: str) -> Callable[[float], None]:
            return meters.histogram(catalogue.STAGE_SECONDS, name).observe

        self.waited = stage("queue")
        self.recovered = stage("recover")
        self.handled_command = stage("handle_command")
        self.handled_event = stage("handle_event")
        self.appended = stage("append")
        self.conflicted = meters.counter(catalogue.CONFLICTS).add
        self.refused_type = meters.counter(catalogue.TYPE_REFUSALS).add


class JournalRecorder:
    """A `JournalMeter`."""

    def __init__(self, meters: Meters) -> None:
        self._seconds = meters.histogram(catalogue.BATCH_SECONDS).observe
        self._appends = meters.histogram(catalogue.BATCH_APPENDS).observe
        self._unavailable = meters.counter(catalogue.JOURNAL_FAILURES, "unavailable").add
        self._unknown = meters.counter(catalogue.JOURNAL_FAILURES, "unknown").add
        self._type_changes = {
            grounds: meters.counter(catalogue.TYPE_CHANGES, grounds.value).add for grounds in Grounds
        }

    def stored(self, appends: int, seconds: float, /) -> None:
        """See `JournalMeter.stored`."""
        self._appends(appends)
        self._seconds(seconds)

    def failed(self, is_known: bool, /) -> None:
        """See `JournalMeter.failed`."""
        self._unavailable() if is_known else self._unknown()

    def changed_type(self, grounds: Grounds, /) -> None:
        """See `JournalMeter.changed_type`."""
        self._type_changes[grounds]()


class ReadSideRecorder:
    """A `ReadSideMeter`."""

    __slots__ = ("delivered", "failed", "handled", "parked", "retried", "skipped")

    def __init__(self, meters: Meters, read_side: str) -> None:
        deliveries = meters.counter(catalogue.DELIVERIES, read_side)
        delay = meters.histogram(catalogue.DELAY_SECONDS, read_side).observe

        def delivered(age: float, /) -> None:
            deliveries.value += 1
            delay(age)

        self.delivered = delivered
        self.handled = meters.histogram(catalogue.READ_HANDLER_SECONDS, read_side).observe
        self.failed = meters.counter(catalogue.DELIVERY_FAILURES, read_side).add
        self.retried = meters.counter(catalogue.RETRIES, read_side).add
        self.parked = meters.counter(catalogue.PARKED, read_side).add
        self.skipped = meters.counter(catalogue.SKIPPED, read_side).add


class SubscriptionRecorder:
    """A `SubscriptionMeter`."""

    __slots__ = ("cut", "sent")

    def __init__(self, meters: Meters) -> None:
        self.sent = meters.counter(catalogue.SUBSCRIPTION_EVENTS).add
        self.cut = meters.counter(catalogue.SUBSCRIPTIONS_CUT).add


class ProgressRecorder:
    """Shows how far read sides are, as was found out now and then; see `cos_ray.readside.lag_monitor`."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def fares(self, status: ReadSideStatus, lag_events: int, lag_seconds: float, /) -> None:
        """See `cos_ray.ports.ProgressMeter.fares`."""
        meters, read_side = self._meters, status.read_side
        meters.gauge(catalogue.LAG_EVENTS, read_side).set(lag_events)
        meters.gauge(catalogue.LAG_SECONDS, read_side).set(lag_seconds)
        letters = sum(behind.dead_letters for behind in status.shards)
        meters.gauge(catalogue.DEAD_LETTERS, read_side).set(letters)
        states = [behind.status.state for behind in status.shards]
        for state in ShardState:
            if state is not ShardState.ELSEWHERE:
                gauge = meters.gauge(catalogue.READ_SIDE_SHARDS, read_side, state.value)
                gauge.set(states.count(state))


def breaker_gauge(meters: Meters, handler: str) -> Callable[[Circuit], None]:
    """Shows a circuit breaker of this process; to be told of each change, closed before the first one."""
    gauge = meters.gauge(catalogue.BREAKER_OPEN, handler)

    def show(circuit: Circuit) -> None:
        # Half open, it still turns away every call but one.
        gauge.set(0 if isinstance(circuit, Closed) else 1)

    return show


def _name(code: Code) -> str:
    return code.name.lower()
