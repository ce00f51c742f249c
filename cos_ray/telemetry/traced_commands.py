"""
The parts of a command's way that show up in its trace, each wrapped around what does the work.

Where traces are off nothing is wrapped. Where a command is not recorded, its trace is passed on and
nothing else done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TypeVar

from opentelemetry.trace import Span, SpanKind

from cos_ray.domain.decisions import Decision
from cos_ray.domain.errors import Code, HandlerFailed
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset
from cos_ray.domain.messages import (
    Accepted,
    Append,
    Command,
    EntityState,
    EventEnvelope,
    Headers,
    Meta,
    NewestRevision,
    Packed,
    Refused,
    Remembered,
    Reply,
)
from cos_ray.domain.trace_ids import traced_id
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.ports import EntityGateway, Journal, WriteHandler
from cos_ray.telemetry.otel import SERVER_FAULTS, Attribute, Attributes, Tracing, failed
from cos_ray.telemetry.trace_context import carried, continuing, in_the_open, is_recorded

_Answer = TypeVar("_Answer")


class TracedGateway:
    """`EntityGateway`: gives commands their place in the current trace."""

    def __init__(self, gateway: EntityGateway) -> None:
        self._gateway = gateway

    async def process(self, command: Command) -> Reply:
        """See `EntityGateway`."""
        trace = carried()
        if trace is not None:
            command = replace(command, trace=trace, command_id=traced_id(command.command_id, trace))
        return await self._gateway.process(command)

    async def state(self, entity_id: EntityId) -> EntityState:
        """See `EntityGateway`."""
        return await self._gateway.state(entity_id)


def traced_run(
    run: Callable[[Command], Awaitable[_Answer]], tracing: Tracing
) -> Callable[[Command], Awaitable[_Answer]]:
    """What runs commands in the process of their entity, with a span around each."""

    async def traced(command: Command) -> _Answer:
        if command.trace is None:
            return await run(command)
        with continuing(command.trace):
            if not command.trace.is_sampled:
                return await run(command)
            with tracing.step("entity process", {"cos.entity.id": command.entity_id}) as span:
                answer = await run(command)
                _tell_outcome(span, answer)
                return answer

    return traced


class TracedEntity:
    """An entity that has a process to itself, with a span around each command."""

    def __init__(
        self,
        process: Callable[[Command], Awaitable[Reply]],
        withdraw: Callable[[CommandId], None],
        ready: Callable[[], Awaitable[None]],
        tracing: Tracing,
    ) -> None:
        self._process = traced_run(process, tracing)
        self._withdraw = withdraw
        self._ready = ready

    async def process(self, command: Command) -> Reply:
        """Run the command when its turn comes."""
        return await self._process(command)

    def withdraw(self, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        self._withdraw(command_id)

    async def ready(self) -> None:
        """Return when the journal answers."""
        await self._ready()


def _tell_outcome(span: Span, answer: object) -> None:
    match answer:
        case Accepted(state):
            span.set_attribute("cos.outcome", "accepted")
            span.set_attribute("cos.entity.revision", state.meta.revision)
        case Refused(status):
            span.set_attribute("cos.outcome", "refused")
            span.set_attribute("cos.refusal", status.code.name)
            if status.code in SERVER_FAULTS:
                failed(span, status.code.name)
        case _:
            # The entity is elsewhere, or to be; the command will be sent again.
            span.set_attribute("cos.outcome", "sent on")


@dataclass(frozen=True, slots=True)
class CallsShown:
    """What calls of a handler look like in traces."""

    handle_command: str
    handle_event: str
    kind: SpanKind
    attributes: Attributes
    of_each: tuple[Attributes, Attributes] = field(default=({}, {}))
    """What differs between the two."""


class TracedWriteHandler:
    """`WriteHandler`, with a span around each call."""

    def __init__(self, handler: WriteHandler, tracing: Tracing, shown: CallsShown) -> None:
        self._handler = handler
        self._tracing = tracing
        self._shown = shown
        of_command, of_event = shown.of_each
        self._of_command: Attributes = {**shown.attributes, **of_command}
        self._of_event: Attributes = {**shown.attributes, **of_event}

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """See `WriteHandler`."""
        # Where both functions are to be seen, each is asked by itself.
        first = None if is_recorded() else first
        answer = self._handler.handle_command(command, prior, headers, timeout, first)
        return await self._call(answer, self._shown.handle_command, self._of_command)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """See `WriteHandler`."""
        answer = self._handler.handle_event(event, prior_state, meta, timeout)
        return await self._call(answer, self._shown.handle_event, self._of_event)

    async def _call(self, answer: Awaitable[_Answer], name: str, attributes: Attributes) -> _Answer:
        if not is_recorded():
            if self._shown.kind is SpanKind.CLIENT:
                return await answer
            with in_the_open():
                return await answer
        with self._tracing.step(name, attributes, self._shown.kind) as span:
            code = Code.OK
            try:
                return await answer
            except HandlerFailed as error:
                code = error.status.code
                raise
            finally:
                if "rpc.system" in attributes:
                    span.set_attribute("rpc.grpc.status_code", code.value)


class TracedJournal:
    """`Journal`, with a span around what commands wait for."""

    def __init__(self, journal: Journal, tracing: Tracing) -> None:
        self._journal = journal
        self._tracing = tracing

    async def append(self, append: Append) -> Offset:
        """See `Journal`."""
        return await self._asked(
            self._journal.append(append), "append", {"cos.events": len(append.envelopes)}
        )

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """See `Journal`."""
        return await self._asked(self._journal.newest(entity_id), "newest")

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """See `Journal`."""
        return await self._asked(self._journal.standing(entity_id, key), "standing")

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """See `Journal`."""
        return await self._asked(self._journal.stored_by(entity_id, command_id), "stored_by")

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """See `Journal`."""
        return await self._asked(self._journal.keys(entity_id, limit), "keys")

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """See `Journal`."""
        return await self._asked(self._journal.remembered(entity_id, key), "remembered")

    async def precedent(self, change: TypeChange) -> Precedent:
        """See `Journal`."""
        return await self._asked(self._journal.precedent(change), "precedent")

    async def _asked(
        self, answer: Awaitable[_Answer], what: str, more: dict[str, Attribute] | None = None
    ) -> _Answer:
        if not is_recorded():
            return await answer
        attributes = {"db.system.name": "postgresql", "db.operation.name": what, **(more or {})}
        with self._tracing.step(f"journal {what}", attributes, SpanKind.CLIENT):
            return await answer
