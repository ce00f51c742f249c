"""
Commands and questions for state on the shortest way through Serve's replica.

Serve wraps each request in what suits any request: two identifiers, a copy of gRPC's context, a
generator with a timer, an access log line that is not written. That is a third of what a command
costs in the process that takes it in. A call with one request and one reply needs none of it. What
Serve goes by to bound, to drain and to scale replicas is kept here as Serve keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeAlias

from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.proxy_request_response import gRPCStreamingType
from ray.serve._private.replica import Replica

STRAIGHT = frozenset({"ProcessCommand", "GetState"})
"""The methods that are called so."""

_APPLICATION = "application"
"""The metadata by which a client names the Serve application that it means."""

_Handler: TypeAlias = Callable[[Any, Any], Awaitable[bytes]]
_Straight: TypeAlias = Callable[[str, Any, Any, Any], Awaitable[bytes | None]]


def add_straight_calls_to_server(servicer: object, server: Any) -> None:
    """
    Take these calls in straight, if it is a replica's server; adds no service.

    It has the form of the functions that add one, and is to come before them: Serve calls them one after
    the other when it builds a server, and the server asks for a handler of each method that they add.
    The ingress class answers such calls in a method `straight` (`cos_ray.ingress.straight`).
    """
    del servicer
    serves_own = server.service_handler_factory
    replica = getattr(serves_own, "__self__", None)
    if not isinstance(replica, Replica) or replica._user_callable_wrapper._run_user_code_in_separate_thread:
        return

    def handler(service_method: str, streaming_type: gRPCStreamingType) -> Any:
        own = serves_own(service_method=service_method, streaming_type=streaming_type)
        name = service_method.rpartition("/")[2]
        is_straight = streaming_type is gRPCStreamingType.UNARY_UNARY and name in STRAIGHT
        return straight_handler(replica, service_method, own) if is_straight else own

    server.service_handler_factory = handler
    # For methods registered one by one, gRPC's server waits for the next call of each, and sets out anew
    # for all of them with every call that comes: forty futures a command. Looked up by name it is one.
    server.add_registered_method_handlers = _register_none


def _register_none(service: str, methods: object) -> None:
    """Leave a service to the generic handler that was added for it."""


def straight_handler(replica: Any, service_method: str, serves_own: _Handler) -> _Handler:
    """Calls the replica's ingress; `serves_own` is for what only Serve can answer."""
    application: str = replica._deployment_id.app_name
    counts = replica._metrics_manager
    name = service_method.rpartition("/")[2]
    shown = RequestMetadata(
        request_id="",
        internal_request_id="",
        call_method=name,
        _grpc_service_method=service_method,
        _request_protocol=RequestProtocol.GRPC,
        app_name=application,
        route=application,
        is_direct_ingress=True,
    )

    @cache
    def straight() -> _Straight:
        # Built by the time that the first call comes, not when the server is.
        found: _Straight = replica._user_callable_wrapper.get_user_method_info("straight").callable
        return found

    async def handler(request: Any, context: Any) -> bytes:
        metadata = context.invocation_metadata() or ()
        if any(key == _APPLICATION for key, _ in metadata) or not replica._can_accept_request(shown):
            return await serves_own(request, context)
        begun = time.monotonic()
        reply: bytes | None = None
        async with replica._semaphore:
            counts.inc_num_ongoing_requests(shown)
            try:
                reply = await straight()(name, request, context, metadata)
                return reply or b""
            finally:
                counts.dec_num_ongoing_requests(shown)
                taken = (time.monotonic() - begun) * 1000
                counts.record_request_metrics(route=application, latency_ms=taken, is_error=reply is None)

    return handler
