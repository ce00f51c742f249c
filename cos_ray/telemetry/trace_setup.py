"""OpenTelemetry set up in a process, as its variables have it."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cos_ray.telemetry.flushing import BoundedFlush
from cos_ray.telemetry.otel import Tracing

_FORMATS: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
    "b3": B3SingleFormat,
    "b3multi": B3MultiFormat,
}


def build_tracing(variables: Mapping[str, str], part: str) -> Tracing:
    """As the variables have it, which have to stand in the environment as well. Once in a process."""
    resource = Resource.create({"cos.part": part, "process.pid": os.getpid()})
    processor = BatchSpanProcessor(_exporter(variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]))
    # The sampler is the library's to read. At the end of the process it would wait half a minute.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
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
    flush = BoundedFlush(provider)
    atexit.register(flush)
    return Tracing(provider, propagator, deliveries, flush)


def build_propagator(names: str) -> TextMapPropagator:
    """The formats of OTEL_PROPAGATORS, in which a trace comes in (the last one there wins) and goes out."""
    return CompositePropagator([_FORMATS[name]() for name in names.split(",") if name != "none"])


def _exporter(protocol: str) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp()
