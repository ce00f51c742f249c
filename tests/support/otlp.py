"""A collector in the test's own process: it takes OTLP, over gRPC and over HTTP, and keeps the spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Received:
    """A span, as the collector has it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    """Trace and span of each."""
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What has been received so far."""

    endpoint: str = ""
    http_endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, Any]) -> None:
        """Keep what comes in one request."""
        self.headers.append(headers)
        for group in request.resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Received(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                            _plain(span.attributes),
                            resource,
                            span.status.code == 2,
                        )
                    )

    def named(self, name: str) -> list[Received]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on free ports."""
    collector = Collector()

    class OverGrpc(TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> Any:
            collector.take(request, dict(context.invocation_metadata()))
            return ExportTraceServiceResponse()

    class OverHttp(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.take(ExportTraceServiceRequest.FromString(body), {**headers, ":path": self.path})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(OverGrpc(), server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), OverHttp)
    collector.http_endpoint = f"http://127.0.0.1:{http.server_port}"
    serving = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield collector
    finally:
        http.shutdown()
        http.server_close()
        server.stop(0)


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
