"""
What HTTP clients call. Each route makes a gRPC request of its own, and calls the method of it.

So whatever holds for a method (who may call it, how often, what is refused) holds here as well.
"""

from __future__ import annotations

from typing import Any as Anything

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cos_ray import __version__
from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.grpc_bridge import GrpcBridge, HttpPolicy
from cos_ray.ingress.http_commands import command_routes
from cos_ray.ingress.http_docs_page import docs_page
from cos_ray.ingress.http_document import require_tokens
from cos_ray.ingress.http_errors import HttpError, error_response
from cos_ray.ingress.http_history import history_routes
from cos_ray.ingress.http_middleware import LastAnswers, RawPaths
from cos_ray.ingress.http_models import ERRORS, StatusShown
from cos_ray.ingress.http_query import only_known_parameters
from cos_ray.ingress.http_streams import stream_routes
from cos_ray.ingress.readiness import Readiness
from cos_ray.protocol.any_form import AnyForms


def build_http_api(methods: Anything, readiness: Readiness, policy: HttpPolicy, forms: AnyForms) -> FastAPI:
    """The routes, built in the replica that answers them; `methods` has the gRPC methods."""
    api = FastAPI(
        title="cos_ray",
        version=__version__,
        description="Commands, states and events of entities.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=ERRORS,
        redirect_slashes=False,
        # Requests are traced and counted by us, once.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.add_middleware(RawPaths)
    api.add_middleware(LastAnswers, is_last=lambda: readiness.is_draining)
    _add_error_handlers(api, methods)
    _add_health(api, readiness)
    if policy.api:
        bridge = GrpcBridge(methods, policy, forms)
        for add_routes in (command_routes, history_routes, stream_routes):
            add_routes(api, bridge)
        _add_documentation(api)
    # Made now rather than for the first request.
    document = api.openapi()
    if policy.tokens:
        require_tokens(document)
    return api


def _add_health(api: FastAPI, readiness: Readiness) -> None:
    # Whatever a query says: a probe that was refused for it would take the node out of service.
    @api.get("/alive", tags=["health"])
    async def alive() -> StatusShown:
        """Whether this process runs."""
        return StatusShown(status="alive")

    @api.get("/-/healthz", include_in_schema=False)
    async def healthz() -> StatusShown:
        """Whether this node takes requests, whatever becomes of them; what KubeRay's probes ask."""
        if not readiness.serves:
            raise HttpError(Status(Code.UNAVAILABLE, "this process takes no more requests"))
        return StatusShown(status="success")

    @api.get("/ready", tags=["health"])
    async def ready() -> StatusShown:
        """Whether commands are taken: with the database, the entities and the ingress at work."""
        faults = await readiness.faults()
        if faults:
            raise HttpError(Status(Code.UNAVAILABLE, f"not ready: {', '.join(faults)}"))
        return StatusShown(status="ready")


def _add_documentation(api: FastAPI) -> None:
    """Open to anybody: it says nothing that is not in the source."""
    known_only = [Depends(only_known_parameters)]

    @api.get("/openapi.json", include_in_schema=False, dependencies=known_only)
    async def document() -> JSONResponse:
        """This API, in OpenAPI."""
        return JSONResponse(api.openapi())

    @api.get("/docs", include_in_schema=False, dependencies=known_only)
    async def docs() -> Response:
        """The same for people."""
        return docs_page(api.openapi())


def _add_error_handlers(api: FastAPI, methods: Anything) -> None:
    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HttpError)
        if error.http_status == 413:
            methods.note_large_body(request.client.host if request.client else None)
        return error_response(error)

    async def unknown_path(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            response = error_response(
                HttpError(Status(Code.UNIMPLEMENTED, f"this path does not take {request.method}"), 405)
            )
            response.headers.update(error.headers or {})
            return response
        if error.status_code == 404:
            return error_response(HttpError(Status(Code.NOT_FOUND, "there is no such path")))
        return error_response(HttpError(Status(Code.INVALID_ARGUMENT, "bad request"), error.status_code))

    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return error_response(HttpError(Status(Code.INTERNAL, "the service failed; its log says why")))

    async def client_gone(request: Request, error: Exception) -> Response:
        # Nobody reads it.
        return Response(status_code=499)

    api.add_exception_handler(HttpError, http_error)
    api.add_exception_handler(ClientDisconnect, client_gone)
    api.add_exception_handler(HTTPException, unknown_path)
    api.add_exception_handler(Exception, unforeseen)
