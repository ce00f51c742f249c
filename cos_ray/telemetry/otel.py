"""
OpenTelemetry, as the service uses it: spans, and the way of a trace into, through and out of it.

Never payloads, and no text that an application wrote: errors are recorded by their kinds. An entity's
id is recorded, as it is in logs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cos_ray.domain.causes import Trace
from cos_ray.domain.errors import Code, DeliveryFailed, HandlerFailed
from cos_ray.domain.messages import Header, Headers

Attribute: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Attribute]

SCOPE = "cos_ray"

MOST_LINKS = 100
"""Of a span for many events at once; the library would keep 128."""

SERVER_FAULTS = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)
"""What makes a server's span an error, by OpenTelemetry's conventions; other codes are answers."""

_FORMATS: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
    "b3": B3SingleFormat,
    "b3multi": B3MultiFormat,
}
_BAGGAGE = W3CBaggagePropagator()


class Tracing:
    """The traces of one process."""

    def __init__(
        self,
        provider: TracerProvider,
        propagator: TextMapPropagator,
        deliveries: TracerProvider | None = None,
    ) -> None:
        """`deliveries`: records the spans of read sides, which are there because their cause is recorded."""
        self._provider = provider
        self._tracer = provider.get_tracer(SCOPE)
        self._deliveries = (deliveries or provider).get_tracer(SCOPE)
        self._propagator = propagator
        self._fields = frozenset(propagator.fields)

    def received(self, metadata: Iterable[tuple[str, str | bytes]]) -> Context:
        """The context that a client sent along, if it did."""
        carrier: dict[str, str] = {}
        for key, value in metadata:
            if isinstance(value, str) and (name := key.lower()) in self._fields:
                # Of a list that is cut in pieces, the pieces count as one.
                carrier[name] = f"{carrier[name]},{value}" if name in carrier else value
        return self._propagator.extract(carrier, Context()) if carrier else Context()

    def outgoing(self) -> Headers:
        """The current context, in headers for a handler."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return tuple(Header(key.lower(), value) for key, value in carrier.items())

    @contextmanager
    def receiving(
        self, metadata: Iterable[tuple[str, str | bytes]], name: str, attributes: Attributes
    ) -> Iterator[Span]:
        """A request, with the span that it begins, recorded or not."""
        came_with = self.received(metadata)
        span = self._tracer.start_span(name, came_with, SpanKind.SERVER, attributes)
        token = contexts.attach(trace.set_span_in_context(span, came_with))
        try:
            yield span
        except BaseException as error:
            failed(span, _kind_of(error))
            raise
        finally:
            contexts.detach(token)
            span.end()

    def answered(self, span: Span, code: Code) -> None:
        """Note how a request was answered, if that is recorded."""
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", code.value)
            if code in SERVER_FAULTS:
                failed(span, code.name)

    def failed(self, span: Span, kind: str) -> None:
        """Let the span have ended in an error of this kind."""
        failed(span, kind)

    @contextmanager
    def step(
        self, name: str, attributes: Attributes | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[Span]:
        """A part of what is going on; current meanwhile. To be called if that is recorded."""
        span = self._tracer.start_span(name, None, kind, attributes)
        with _current(span):
            yield span

    @contextmanager
    def delivery(self, name: str, causes: Sequence[str], attributes: Attributes) -> Iterator[Span]:
        """A trace of its own, with links to the commands that it comes from."""
        links = [Link(_span_context(cause)) for cause in causes[:MOST_LINKS]]
        span = self._deliveries.start_span(name, Context(), SpanKind.CONSUMER, attributes, links)
        with _current(span):
            yield span

    def flush(self) -> None:
        """Export what has been recorded; waits for it."""
        self._provider.force_flush()


def carried() -> Trace | None:
    """The current context, for a hop inside the service; None if there is no trace."""
    at = trace.get_current_span().get_span_context()
    if not at.is_valid:
        return None
    baggage: dict[str, str] = {}
    _BAGGAGE.inject(baggage)
    parent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"
    return Trace(parent, at.trace_state.to_header(), baggage.get("baggage", ""))


@contextmanager
def continuing(told: Trace) -> Iterator[None]:
    """Behind a hop, with what was carried current again."""
    remote = trace.NonRecordingSpan(_span_context(told.parent, told.state))
    context = trace.set_span_in_context(remote, Context())
    if told.baggage:
        context = _BAGGAGE.extract({"baggage": told.baggage}, context)
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


def is_recorded() -> bool:
    """Whether what is going on is recorded."""
    return trace.get_current_span().is_recording()


def failed(span: Span, kind: str) -> None:
    """Let the span have ended in an error of this kind."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def ids() -> dict[str, str]:
    """The current trace and span, for log lines; empty if there are none."""
    at = trace.get_current_span().get_span_context()
    if not at.is_valid:
        return {}
    return {"trace_id": f"{at.trace_id:032x}", "span_id": f"{at.span_id:016x}"}


def build_tracing(variables: Mapping[str, str], part: str) -> Tracing:
    """As the variables have it, which have to stand in the environment as well. Once in a process."""
    resource = Resource.create({"cos.part": part, "process.pid": os.getpid()})
    processor = BatchSpanProcessor(_exporter(variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]))
    # The sampler is the library's to read.
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    is_off = variables["OTEL_TRACES_SAMPLER"] == "always_off"
    deliveries = TracerProvider(ALWAYS_OFF if is_off else ALWAYS_ON, resource, shutdown_on_exit=False)
    deliveries.add_span_processor(processor)
    propagator = build_propagator(variables["OTEL_PROPAGATORS"])
    # For what runs in this process beside us: handlers in Python, and the libraries they use.
    trace.set_tracer_provider(provider)
    propagate.set_global_textmap(propagator)
    # A collector that is away is told of once for each batch that is lost, not for each try.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    return Tracing(provider, propagator, deliveries)


def build_propagator(names: str) -> TextMapPropagator:
    """The formats of OTEL_PROPAGATORS, in which a trace comes in (the last one there wins) and goes out."""
    return CompositePropagator([_FORMATS[name]() for name in names.split(",") if name != "none"])


def _exporter(protocol: str) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp()


@contextmanager
def _current(span: Span) -> Iterator[None]:
    token = contexts.attach(trace.set_span_in_context(span))
    try:
        yield
    except BaseException as error:
        failed(span, _kind_of(error))
        raise
    finally:
        contexts.detach(token)
        span.end()


def _kind_of(error: BaseException) -> str:
    """What an error is, without what it says: that may be an application's text."""
    match error:
        case HandlerFailed(status=status):
            return status.code.name
        case DeliveryFailed(code=Code() as code):
            return code.name
        case _:
            return type(error).__name__


def _span_context(parent: str, state: str = "") -> SpanContext:
    return SpanContext(
        int(parent[3:35], 16),
        int(parent[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parent[53:55], 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )
