"""A request's query: parameters that its route has, each at most once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from urllib.parse import parse_qsl

from fastapi import Request

from cos_ray.ingress.http_errors import bad_request


async def only_known_parameters(request: Request) -> None:
    """
    Let a request pass whose query has nothing but what the OpenAPI document says of its route.

    A misspelt parameter would be a question that was not answered. Raises HttpError (400) that names it.
    """
    check_query(request)


def check_query(request: Request) -> None:
    """See `only_known_parameters`."""
    query: bytes = request.scope["query_string"]
    if not query:
        return
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise bad_request("the query is no UTF-8") from None
    known = _parameters_of(request)
    for name, count in Counter(name for name, _ in pairs).items():
        if name not in known:
            allowed = f"known: {', '.join(sorted(known))}" if known else "this path has none"
            raise bad_request(f"unknown query parameter {name[:100]!r}; {allowed}")
        if count > 1:
            raise bad_request(f"query parameter {name!r} is given more than once")


def _parameters_of(request: Request) -> Set[str]:
    path = getattr(request.scope.get("route"), "path", "")
    # Made once, and kept by FastAPI.
    operations = request.app.openapi()["paths"].get(path, {})
    parameters = operations.get(request.method.lower(), {}).get("parameters", ())
    return {each["name"] for each in parameters if each["in"] == "query"}
