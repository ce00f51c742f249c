"""
OpenTelemetry, as the service uses it: spans, and the way of a trace into, through and out of it.

Never payloads, and no text that an application wrote: errors are recorded by their kinds. An entity's
id is recorded, as it is in logs.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from cos_ray.domain.errors import Code, DeliveryFailed, HandlerFailed
from cos_ray.domain.messages import Header, Headers
from cos_ray.domain.trace_ids import Trace
from cos_ray.telemetry.trace_context import CURRENT, Passing, context_of, passed, span_context, trace_of

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

_PLAIN = frozenset({"traceparent", "tracestate", "baggage"})
_UNSAMPLED = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")

LONGEST_STATE = 512
"""Characters of a `tracestate` that are passed on unread, as the W3C has it."""

LONGEST_BAGGAGE = 8192
"""Likewise, of a client's `baggage`."""


class Tracing:
    """The traces of one process."""

    def __init__(
        self,
        provider: TracerProvider,
        propagator: TextMapPropagator,
        deliveries: TracerProvider | None = None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        """
        `deliveries` records the spans of read sides, which are there because their cause is recorded.

        `flush`: how what was recorded is exported; None: by the library, which may take its time.
        """
        self._flush = flush or provider.force_flush
        self._sampler = provider.sampler
        provider.id_generator = self._ids = _Ids()
        self._tracer = provider.get_tracer(SCOPE)
        self._deliveries = (deliveries or provider).get_tracer(SCOPE)
        self._propagator = propagator
        self._fields = frozenset(propagator.fields)
        self._is_plain = self._fields <= _PLAIN
        self._obeys_clients = isinstance(provider.sampler, ParentBased)

    def outgoing(self) -> Headers:
        """The current context, in headers for a handler."""
        passing = CURRENT.get()
        if passing is None:
            return self._injected(None)
        if passing.headers is None:
            told = passing.trace
            passing.headers = self._plain(told) if self._is_plain else self._injected(context_of(told))
        return passing.headers

    @contextmanager
    def receiving(
        self, metadata: Iterable[tuple[str, str | bytes]], name: str, attributes: Attributes
    ) -> Iterator[Span]:
        """A request, with the span that it begins, recorded or not."""
        carrier = self._carrier(metadata)
        passing = self._not_to_be_recorded(carrier, name, attributes)
        if passing is not None:
            with passed(passing):
                yield trace.INVALID_SPAN
            return
        came_with = self._propagator.extract(carrier, Context()) if carrier else Context()
        span = self._tracer.start_span(name, came_with, SpanKind.SERVER, attributes)
        with _current(span, came_with):
            if span.is_recording():
                yield span
            else:
                with passed(Passing(trace_of(span.get_span_context()))):
                    yield span

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
        links = [Link(span_context(cause)) for cause in causes[:MOST_LINKS]]
        span = self._deliveries.start_span(name, Context(), SpanKind.CONSUMER, attributes, links)
        with _current(span):
            yield span

    def flush(self) -> None:
        """Export what has been recorded; waits for it, within bounds."""
        self._flush()

    def _carrier(self, metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
        """What a client sent along of a trace."""
        carrier: dict[str, str] = {}
        for key, value in metadata:
            if key in self._fields and isinstance(value, str):
                # Of a list that is cut in pieces, the pieces count as one.
                carrier[key] = f"{carrier[key]},{value}" if key in carrier else value
        return carrier

    def _not_to_be_recorded(
        self, carrier: dict[str, str], name: str, attributes: Attributes
    ) -> Passing | None:
        """
        What to pass on of a trace that is not recorded; None if it is, or the library has to tell.

        Most requests are such, and it takes the library many times as long to find that out.
        """
        if not carrier:
            trace_id = self._ids.generate_trace_id()
            asked = self._sampler.should_sample(None, trace_id, name, SpanKind.SERVER, attributes)
            if asked.decision is Decision.DROP:
                return Passing(Trace(f"00-{trace_id:032x}-{self._ids.generate_span_id():016x}-00"))
            # The library asks once more: about the same one, it has the same answer.
            self._ids.following(trace_id)
            return None
        parent = carrier.get("traceparent", "")
        if not self._obeys_clients or not _UNSAMPLED.fullmatch(parent) or not _PLAIN.issuperset(carrier):
            return None
        state, baggage = carrier.get("tracestate", ""), carrier.get("baggage", "")
        if not (state + baggage).isprintable() or not (state + baggage).isascii():
            # HTTP lets through what gRPC does not: the library puts it in order.
            return None
        return Passing(
            Trace(
                parent,
                state if len(state) <= LONGEST_STATE else "",
                baggage if len(baggage) <= LONGEST_BAGGAGE else "",
            )
        )

    def _plain(self, told: Trace) -> Headers:
        """By hand, and in no time, what the library would make of it."""
        values = ("traceparent", told.parent), ("tracestate", told.state), ("baggage", told.baggage)
        return tuple(Header(name, value) for name, value in values if value and name in self._fields)

    def _injected(self, context: Context | None) -> Headers:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context)
        return tuple(Header(key.lower(), value) for key, value in carrier.items())


class _Ids(RandomIdGenerator):
    """Random ones, but for one that was drawn before."""

    def __init__(self) -> None:
        self._drawn = threading.local()

    def following(self, trace_id: int) -> None:
        """Let this be the next one, in this thread."""
        self._drawn.trace_id = trace_id

    def generate_trace_id(self) -> int:
        """A trace's id."""
        drawn: int | None = self._drawn.__dict__.pop("trace_id", None)
        return super().generate_trace_id() if drawn is None else drawn


def failed(span: Span, kind: str) -> None:
    """Let the span have ended in an error of this kind."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


@contextmanager
def _current(span: Span, context: Context | None = None) -> Iterator[None]:
    token = contexts.attach(trace.set_span_in_context(span, context))
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
