"""
What a client is told when the ingress replica that serves its call dies, or none is up yet.

As long as HAProxy knows a live replica, calls go there, and one that dies is UNAVAILABLE to the client.
While it knows none, Serve's own proxy passes calls on, and answers INTERNAL with Ray's account of the dead
actor, its address among it. Clients send again what is UNAVAILABLE, and rightly not what is INTERNAL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayActorError
from ray.serve._private import proxy
from ray.serve._private.http_util import convert_object_to_asgi_messages
from ray.serve._private.proxy_request_response import ResponseStatus
from ray.serve.exceptions import DeploymentUnavailableError

LOST = "the process that served this call has died; what the call asked for may have been done"
NOT_UP = "the service is not up; nothing was done"


def add_lost_replicas_to_server(servicer: object, server: object) -> None:
    """
    Make Serve's proxy in this process answer so; adds no service.

    It has the form of the functions that add one, for those are what Serve calls in each of its
    proxies, by name, before it serves. Serve offers no other way to say which status an error becomes.
    """
    del servicer, server
    if proxy.get_grpc_response_status is not _status_of:
        proxy.get_grpc_response_status = _status_of
        proxy.gRPCProxy.not_found_response = _no_application
        proxy.HTTPProxy.not_found_response = _no_application_over_http


class _Unavailable(DeploymentUnavailableError):  # type: ignore[misc]
    """An error for which Serve answers UNAVAILABLE."""

    def __init__(self, reason: str) -> None:
        # Serve would name a deployment here.
        super().__init__(deployment_id=None)
        self._reason = reason

    @property
    def message(self) -> str:
        return self._reason


_serves_own = proxy.get_grpc_response_status


def _status_of(error: BaseException, request_timeout_s: float | None, request_id: str) -> ResponseStatus:
    if isinstance(error, RayActorError):
        error = _Unavailable(LOST)
    return _serves_own(error, request_timeout_s, request_id)


_serves_own_not_found = proxy.gRPCProxy.not_found_response


async def _no_application(self: proxy.gRPCProxy, request: Any) -> AsyncIterator[Any]:
    if request.app_name:
        # Who asks for one by name has it from Serve that there is none of that name.
        async for message in _serves_own_not_found(self, request):
            yield message
    else:
        yield _serves_own(_Unavailable(NOT_UP), None, "")


async def _no_application_over_http(self: proxy.HTTPProxy, request: object) -> AsyncIterator[Any]:
    del self, request
    # Ours takes every path: that none is known means that it is not there.
    for message in convert_object_to_asgi_messages({"error": f"UNAVAILABLE: {NOT_UP}"}, status_code=503):
        yield message
    yield ResponseStatus(code=503, message=NOT_UP, is_error=True)
