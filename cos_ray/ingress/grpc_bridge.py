"""How a route of the HTTP API calls a gRPC method: metadata from headers, checks before the body, errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any as Anything
from typing import Protocol, TypeVar

from fastapi import Request

from cos_ray.ingress.http_context import BadHeader, HttpContext, metadata_of
from cos_ray.ingress.http_errors import HttpError, bad_request
from cos_ray.ingress.http_forms import Forms
from cos_ray.ingress.http_query import check_query
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


_Reply = TypeVar("_Reply")


class Method(Protocol):
    """A gRPC method with one reply."""

    def __call__(self, request: Anything, grpc_context: Anything) -> Awaitable[Anything]:
        """Call it."""
        ...


class GrpcBridge:
    """The gRPC methods, as the routes call them."""

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
