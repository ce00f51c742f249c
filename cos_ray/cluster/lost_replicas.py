"""
What a client is told when the ingress replica that serves its call dies.

As long as HAProxy knows a live replica, calls go there, and one that dies is UNAVAILABLE to the client.
While it knows none, Serve's own proxy passes calls on, and answers INTERNAL with Ray's account of the dead
actor, its address among it. Clients send again what is UNAVAILABLE, and rightly not what is INTERNAL.
"""

from __future__ import annotations

from ray.exceptions import RayActorError
from ray.serve._private import proxy
from ray.serve._private.proxy_request_response import ResponseStatus
from ray.serve.exceptions import DeploymentUnavailableError

LOST = "the process that served this call has died; what the call asked for may have been done"


def add_lost_replicas_to_server(servicer: object, server: object) -> None:
    """
    Make Serve's proxy in this process answer so; adds no service.

    It has the form of the functions that add one, for those are what Serve calls in each of its
    proxies, by name, before it serves. Serve offers no other way to say which status an error becomes.
    """
    del servicer, server
    if proxy.get_grpc_response_status is not _status_of:
        proxy.get_grpc_response_status = _status_of


class _ReplicaLost(DeploymentUnavailableError):  # type: ignore[misc]
    """An error for which Serve answers UNAVAILABLE."""

    def __init__(self) -> None:
        # Serve would name a deployment here.
        super().__init__(deployment_id=None)

    @property
    def message(self) -> str:
        return LOST


_serves_own = proxy.get_grpc_response_status


def _status_of(error: BaseException, request_timeout_s: float | None, request_id: str) -> ResponseStatus:
    if isinstance(error, RayActorError):
        error = _ReplicaLost()
    return _serves_own(error, request_timeout_s, request_id)
