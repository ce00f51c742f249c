"""
Handlers behind a circuit breaker: one in trouble is left alone for a while.

What opens and closes the circuit is decided in `cos_ray.domain.circuit_breaker`. There is one circuit for
each process and handler: with dedicated placement, for each entity.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cos_ray.domain.circuit_breaker import (
    COUNTED,
    BreakerPolicy,
    Circuit,
    Closed,
    Open,
    admit,
    after_abandonment,
    after_answer,
    after_failure,
)
from cos_ray.domain.decisions import Decision
from cos_ray.domain.errors import Code, DeliveryFailed, HandlerFailed, Status
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import EntityState, EventEnvelope, Headers, Meta, Packed
from cos_ray.ports import Clock, ReadHandler, WriteHandler

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

OPEN = "circuit breaker is open: the handler kept failing and is left alone for a while"


class CircuitOpen(Exception):
    """The call was not let through."""


class Breaker:
    """A circuit, the clock it goes by, and who is told when it changes."""

    def __init__(
        self,
        handler: str,
        policy: BreakerPolicy,
        clock: Clock,
        changed: Callable[[Circuit], None] = lambda circuit: None,
    ) -> None:
        """`handler` names it in the log; `changed` is called with each new circuit, for a metric."""
        self.policy = policy
        self._handler = handler
        self._clock = clock
        self._changed = changed
        self._circuit: Circuit = Closed()

    @property
    def circuit(self) -> Circuit:
        """The circuit as it is."""
        return self._circuit

    async def run(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        """Make the call if the circuit lets it through. Raises CircuitOpen, and what the call raises."""
        admission = admit(self._circuit, self._clock.monotonic())
        self._become(admission.circuit)
        if not admission.is_admitted:
            raise CircuitOpen
        try:
            result = await call()
        except Exception as error:
            self._become(self._after(error, admission.is_trial))
            raise
        except BaseException:
            # Cancelled: whoever waited for the answer is gone, and it says nothing.
            self._become(after_abandonment(self._circuit, admission.is_trial, self._clock.monotonic()))
            raise
        self._become(after_answer(self._circuit, admission.is_trial))
        return result

    def _after(self, error: Exception, is_trial: bool) -> Circuit:
        if _code_of(error) in COUNTED:
            return after_failure(self._circuit, is_trial, self.policy, self._clock.monotonic())
        return after_answer(self._circuit, is_trial)

    def _become(self, circuit: Circuit) -> None:
        before, self._circuit = self._circuit, circuit
        if type(before) is not type(circuit):
            level = logging.WARNING if isinstance(circuit, Open) else logging.INFO
            facts = {"handler": self._handler, "circuit": type(circuit).__name__}
            logger.log(level, "circuit breaker changed", extra=facts)
            self._changed(circuit)


class GuardedWriteHandler:
    """A write handler behind a breaker; while the circuit is open, calls fail at once as UNAVAILABLE."""

    def __init__(self, handler: WriteHandler, breaker: Breaker) -> None:
        self._handler = handler
        self._breaker = breaker
        self._call_timeout = breaker.policy.call_timeout.total_seconds()

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """See `WriteHandler.handle_command`."""
        timeout = min(timeout, self._call_timeout)
        return await self._run(lambda: self._handler.handle_command(command, prior, headers, timeout, first))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """See `WriteHandler.handle_event`."""
        timeout = min(timeout, self._call_timeout)
        return await self._run(lambda: self._handler.handle_event(event, prior_state, meta, timeout))

    async def _run(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        try:
            return await self._breaker.run(call)
        except CircuitOpen as error:
            raise HandlerFailed(Status(Code.UNAVAILABLE, f"write handler's {OPEN}")) from error


class GuardedReadHandler:
    """A read handler behind a breaker. How long a call may take is the handler's own to keep."""

    def __init__(self, handler: ReadHandler, breaker: Breaker) -> None:
        self._handler = handler
        self._breaker = breaker

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """See `ReadHandler.handle`."""
        try:
            await self._breaker.run(lambda: self._handler.handle(read_side, shard, envelope))
        except CircuitOpen as error:
            raise DeliveryFailed(OPEN, Code.UNAVAILABLE) from error


def _code_of(error: Exception) -> Code | None:
    match error:
        case HandlerFailed():
            return error.status.code
        case DeliveryFailed():
            # Without a code the handler answered: it said no.
            return error.code
        case _:
            return Code.UNKNOWN
