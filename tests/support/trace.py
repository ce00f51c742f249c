"""Traces as tests see them: recorded in memory, from the ingress to a read side, over fakes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import CosError
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import NOTHING, Command, EntityState, Headers, Meta, Packed, Reply
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.otel import Tracing
from cos_ray.telemetry.trace_setup import build_propagator
from cos_ray.telemetry.traced_commands import (
    CallsShown,
    TracedEntity,
    TracedGateway,
    TracedJournal,
    TracedWriteHandler,
)
from cos_ray.testing.journal import MemoryJournal
from cos_ray.transport.batching import Batch
from cos_ray.transport.encoding import batch_from_bytes, batch_to_bytes
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.router import Router

A = EntityId("a")
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE}-{CALLER}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{CALLER}-00")

SHOWN = CallsShown("HandleCommand", "HandleEvent", SpanKind.CLIENT, {"rpc.system": "grpc"})


class Recorded:
    """Traces of this test alone."""

    def __init__(self, propagators: str = "tracecontext,baggage", sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self.exporter)
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        deliveries = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
        for each in (provider, deliveries):
            each.add_span_processor(processor)
        self.tracing = Tracing(provider, build_propagator(propagators), deliveries)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All that have ended, in the order of their ends."""
        return self.exporter.get_finished_spans()

    def one(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


def span_id(span: ReadableSpan) -> int:
    """Its own."""
    return span.get_span_context().span_id  # type: ignore[union-attr]


def parent_of(span: ReadableSpan) -> int:
    """The span that it is part of; 0: none."""
    return span.parent.span_id if span.parent is not None else 0


def trace_of(span: ReadableSpan) -> str:
    """Its trace, in hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"  # type: ignore[union-attr]


@dataclass
class Handler:
    """Answers each command with an event; notes which trace it is called in."""

    tracing: Tracing
    failure: CosError | None = None
    events: int = 1
    heard: list[dict[str, str | bytes]] = field(default_factory=list)

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        self._hear()
        return decide([Packed(b"\x12\x01e")] * self.events, NOTHING)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        self._hear()
        return Packed(b"\x12\x01s")

    def _hear(self) -> None:
        self.heard.append({header.key: header.value for header in self.tracing.outgoing()})
        if self.failure is not None:
            raise self.failure


@dataclass
class Hop:
    """One entity behind a hop: commands get there in both of the ways in which they travel."""

    entity: TracedEntity
    seen: list[Command] = field(default_factory=list)

    async def ask(self, command: Command) -> Reply:
        home = Assignment(1, 4, (HostId("0"),))
        _, batch = batch_from_bytes(batch_to_bytes(home, Batch([(1, command)])))
        ((_, there),) = batch.requests
        assert there == pickle.loads(pickle.dumps(command))
        self.seen.append(there)
        # Another process knows nothing of what is current here.
        token = context.attach(context.Context())
        try:
            return await self.entity.process(there)
        finally:
            context.detach(token)


@dataclass
class Flow:
    """A write side."""

    recorded: Recorded
    journal: MemoryJournal
    handler: Handler
    hop: Hop
    gateway: TracedGateway


def flow(recorded: Recorded) -> Flow:
    """All of a command's way."""
    journal, handler = MemoryJournal(), Handler(recorded.tracing)
    tracing, clock = recorded.tracing, SystemClock()
    served = TracedWriteHandler(handler, tracing, SHOWN)
    entity = Entity(A, Shard(0), served, TracedJournal(journal, tracing), clock)
    hop = Hop(TracedEntity(entity.process, entity.withdraw, entity.ready, tracing))
    return Flow(recorded, journal, handler, hop, TracedGateway(Router(hop, journal, clock)))


@dataclass
class ServeContext:
    """What Serve hands to a method, as far as it is used."""

    metadata: list[tuple[str, str | bytes]]
    told: Any = None
    details: str = ""

    def code(self) -> Any:
        return self.told

    def set_code(self, code: grpc.StatusCode) -> None:
        self.told = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None: ...

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return self.metadata
