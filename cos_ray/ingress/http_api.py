"""
What HTTP clients call. Each route makes a gRPC request of its own, and calls the method of it.

So whatever holds for a method (who may call it, how often, what is refused) holds here as well.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any as Anything
from typing import Protocol, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cos_ray import __version__
from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.http_commands import command_routes
from cos_ray.ingress.http_context import BadHeader, HttpContext, metadata_of
from cos_ray.ingress.http_docs_page import docs_page
from cos_ray.ingress.http_document import require_tokens
from cos_ray.ingress.http_errors import HttpError, bad_request, error_response
from cos_ray.ingress.http_forms import Forms
from cos_ray.ingress.http_history import history_routes
from cos_ray.ingress.http_models import ERRORS, StatusShown
from cos_ray.ingress.http_query import check_query, only_known_parameters
from cos_ray.ingress.http_streams import stream_routes
from cos_ray.ingress.last_answers import LastAnswers
from cos_ray.ingress.raw_path import RawPaths
from cos_ray.ingress.readiness import Readiness
from cos_ray.protocol.any_form import AnyForms

LARGEST_BODY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """What is answered over HTTP, and what is taken in."""

    api: bool = False
    """Whether the API answers; `/ready` and `/alive` always do."""
    largest_body: int = LARGEST_BODY
    """In bytes."""
    watched_headers: frozenset[str] = frozenset()
    """Those that matter to somebody, in lower case."""
    tokens: bool = False
    """Whether the document is to say that a token is needed; `methods` ask for it."""


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
        routes = HttpRoutes(methods, policy, forms)
        for add_routes in (command_routes, history_routes, stream_routes):
            add_routes(api, routes)
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


_Reply = TypeVar("_Reply")


class Method(Protocol):
    """A gRPC method with one reply."""

    def __call__(self, request: Anything, grpc_context: Anything) -> Awaitable[Anything]:
        """Call it."""
        ...


class HttpRoutes:
    """What all routes need."""

    def __init__(self, methods: Anything, policy: HttpPolicy, forms: AnyForms) -> None:
        self.methods = methods
        self.any_forms = forms
        self.largest_body = policy.largest_body
        self._watched = policy.watched_headers

    def context(self, request: Request) -> HttpContext:
        """
        The request's headers as metadata.

        Raises HttpError, also when the caller's token is not one, or the query has what the route does not:
        no body has been read by then.
        """
        try:
            metadata = metadata_of(request.headers.raw, self._watched)
        except BadHeader as error:
            raise bad_request(str(error)) from None
        path = getattr(request.scope.get("route"), "path", "")
        context = HttpContext(metadata, f"{request.method} {path}")
        if (status := self.methods.refuses_caller(context)) is not None:
            raise HttpError(status)
        check_query(request)
        return context

    def forms(self, request: Request) -> Forms:
        """How the client wants an `Any` to look. Raises HttpError."""
        wanted = request.query_params.get("any", "base64")
        if wanted not in ("base64", "json"):
            raise bad_request(f"any is {wanted[:100]!r}; allowed: base64 or json")
        return Forms(self.any_forms, readable=wanted == "json")

    async def call(self, name: str, build: Callable[[], Anything], context: HttpContext) -> Anything:
        """The reply of a method. Raises HttpError with the status it ended with."""
        reply = await getattr(self.methods, name)(self.message(build), context)
        if context.status is not None:
            raise HttpError(context.status)
        return reply

    def stream(
        self, name: str, build: Callable[[], Anything], context: HttpContext
    ) -> AsyncGenerator[Anything, None]:
        """The messages of a method. Raises HttpError."""
        messages: AsyncGenerator[Anything, None] = getattr(self.methods, name)(self.message(build), context)
        return messages

    def message(self, build: Callable[[], _Reply]) -> _Reply:
        """A gRPC request. Raises HttpError when a text in it is no Unicode."""
        try:
            return build()
        except (ValueError, TypeError):
            raise bad_request("a text in the request is not valid Unicode, or no text") from None


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
