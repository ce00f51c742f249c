"""
Each request's place in a trace: taken over from its client, or begun here.

Around all methods with one reply, whatever their service; streams and health are left out, for they
last, or come, too often to tell anything.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from cos_ray.domain.errors import Code
from cos_ray.ingress.admission import OPEN_TO_ALL
from cos_ray.ingress.http_context import HttpContext
from cos_ray.ingress.http_errors import HTTP_STATUS

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Attributes, Tracing

_Class = TypeVar("_Class", bound=type)


class TracingParts(Protocol):
    """What is needed of the ingress's parts."""

    tracing: Tracing | None
    """None: traces are off."""


def traced(services: Sequence[str]) -> Any:
    """Decorates a class: its methods of these services are traced if its `_parts.tracing` is not None."""

    def decorate(cls: _Class) -> _Class:
        for service in services:
            if service == OPEN_TO_ALL:
                continue
            for method in descriptor_pool.Default().FindServiceByName(service).methods:
                if not method.server_streaming:
                    setattr(cls, method.name, _traced(getattr(cls, method.name), method))
        return cls

    return decorate


def _traced(call: Any, method: MethodDescriptor) -> Any:
    service = method.containing_service.full_name
    name = f"{service}/{method.name}"
    shown: Attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method.name}

    @functools.wraps(call)
    async def unary(self: Any, request: Any, grpc_context: Any) -> Any:
        tracing: Tracing | None = self._parts.tracing
        if tracing is None:
            return await call(self, request, grpc_context)
        if isinstance(grpc_context, HttpContext):
            return await _over_http(tracing, grpc_context, lambda: call(self, request, grpc_context))
        with tracing.receiving(grpc_context.invocation_metadata(), name, shown) as span:
            reply = await call(self, request, grpc_context)
            tracing.answered(span, _code_of(grpc_context))
            return reply

    return unary


async def _over_http(tracing: Tracing, context: HttpContext, call: Any) -> Any:
    method, _, path = context.route.partition(" ")
    shown: Attributes = {"http.request.method": method, "http.route": path}
    with tracing.receiving(context.invocation_metadata(), context.route, shown) as span:
        reply = await call()
        if span.is_recording():
            status = context.status
            answer = 200 if status is None else HTTP_STATUS[status.code]
            span.set_attribute("http.response.status_code", answer)
            if status is not None and answer >= 500:
                tracing.failed(span, status.code.name)
        return reply


def _code_of(context: Any) -> Code:
    """How the call is to end, by what Serve's context has been told; nothing: well."""
    code = context.code()
    return Code(code.value[0]) if isinstance(code, grpc.StatusCode) else Code.OK
