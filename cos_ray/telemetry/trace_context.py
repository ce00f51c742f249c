"""
The trace that what is going on belongs to, and how it gets through a hop.

Most commands are not recorded, and their trace is only passed on. It takes the library many times as
long to carry such a one as it takes to carry a few texts, so that is what is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from cos_ray.domain.messages import Headers
from cos_ray.domain.trace_ids import Trace, trace_id_of

_BAGGAGE = W3CBaggagePropagator()


class Passing:
    """A trace that is not recorded here, on its way through."""

    __slots__ = ("headers", "trace")

    def __init__(self, told: Trace) -> None:
        self.trace = told
        self.headers: Headers | None = None
        """As handlers are told of it; made when first needed."""


CURRENT: ContextVar[Passing | None] = ContextVar("passing", default=None)
"""The one that is current; None: what is current is as the library has it."""


def carried() -> Trace | None:
    """The current context, for a hop inside the service; None if there is no trace."""
    passing = CURRENT.get()
    if passing is not None:
        return passing.trace
    at = trace.get_current_span().get_span_context()
    return trace_of(at) if at.is_valid else None


@contextmanager
def continuing(told: Trace) -> Iterator[None]:
    """Behind a hop, with what was carried current again."""
    if not told.is_sampled:
        with passed(Passing(told)):
            yield
        return
    token = contexts.attach(context_of(told))
    try:
        yield
    finally:
        contexts.detach(token)


@contextmanager
def in_the_open() -> Iterator[None]:
    """With a trace that is only passed on visible to the library: an application's code may look for it."""
    passing = CURRENT.get()
    if passing is None:
        yield
        return
    token = contexts.attach(context_of(passing.trace))
    try:
        yield
    finally:
        contexts.detach(token)


def is_recorded() -> bool:
    """Whether what is going on is recorded."""
    return CURRENT.get() is None and trace.get_current_span().is_recording()


def ids() -> dict[str, str]:
    """The current trace and span, for log lines; empty if there are none."""
    passing = CURRENT.get()
    if passing is not None:
        return {"trace_id": trace_id_of(passing.trace.parent)}
    at = trace.get_current_span().get_span_context()
    if not at.is_valid:
        return {}
    return {"trace_id": f"{at.trace_id:032x}", "span_id": f"{at.span_id:016x}"}


@contextmanager
def passed(passing: Passing) -> Iterator[None]:
    """With this one current."""
    token = CURRENT.set(passing)
    try:
        yield
    finally:
        CURRENT.reset(token)


def trace_of(at: SpanContext) -> Trace:
    """A span of the library's, to be carried."""
    baggage: dict[str, str] = {}
    _BAGGAGE.inject(baggage)
    parent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"
    return Trace(parent, at.trace_state.to_header(), baggage.get("baggage", ""))


def context_of(told: Trace) -> Context:
    """What was carried, as the library has it."""
    remote = trace.NonRecordingSpan(span_context(told.parent, told.state))
    context = trace.set_span_in_context(remote, Context())
    return _BAGGAGE.extract({"baggage": told.baggage}, context) if told.baggage else context


def span_context(parent: str, state: str = "") -> SpanContext:
    """What a `traceparent` stands for."""
    return SpanContext(
        int(parent[3:35], 16),
        int(parent[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parent[53:55], 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )
