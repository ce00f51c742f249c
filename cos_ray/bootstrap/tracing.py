"""What a write handler's calls look like in traces; imported where traces are on."""

from __future__ import annotations

from opentelemetry.trace import SpanKind
from typing_extensions import assert_never

from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint, WriteTarget
from cos_ray.telemetry.otel import Attributes
from cos_ray.telemetry.traced_commands import CallsShown

_SERVICE = "chief_of_state.v1.WriteSideHandlerService"
_PATH = "/v1/writeside"


def calls_shown(target: WriteTarget) -> CallsShown:
    """Names and attributes by OpenTelemetry's conventions for that kind of call."""
    match target:
        case GrpcEndpoint(host, port):
            common: Attributes = {
                "rpc.system": "grpc",
                "rpc.service": _SERVICE,
                "server.address": host,
                "server.port": port,
            }
            differing: tuple[Attributes, Attributes] = (
                {"rpc.method": "HandleCommand"},
                {"rpc.method": "HandleEvent"},
            )
            names = f"{_SERVICE}/HandleCommand", f"{_SERVICE}/HandleEvent"
            return CallsShown(*names, SpanKind.CLIENT, common, differing)
        case HttpEndpoint(host, port):
            common = {"http.request.method": "POST", "server.address": host, "server.port": port}
            paths = f"{_PATH}/handleCommand", f"{_PATH}/handleEvent"
            differing = {"url.template": paths[0]}, {"url.template": paths[1]}
            return CallsShown(f"POST {paths[0]}", f"POST {paths[1]}", SpanKind.CLIENT, common, differing)
        case PythonEndpoint(reference):
            common = {"code.function.name": reference}
            return CallsShown("handle_command", "handle_event", SpanKind.INTERNAL, common)
        case unreachable:
            assert_never(unreachable)
