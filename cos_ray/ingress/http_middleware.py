"""
What every request passes: paths are kept as they were sent, and a last answer ends its connection.

What is percent-encoded in a segment of a path belongs to that segment, a slash included.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cos_ray.ingress.http_errors import bad_request


class LastAnswers:
    """Tells clients by their next answer that the connection ends with it."""

    def __init__(self, app: ASGIApp, is_last: Callable[[], bool]) -> None:
        self._app = app
        self._is_last = is_last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_last():
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_last)


class RawPaths:
    """Has the application look at the path before it is decoded; `decoded` then decodes its parts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            raw = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
            scope = {**scope, "path": raw.partition(b"?")[0].decode("latin-1")}
        await self._app(scope, receive, send)


def decoded(segment: str) -> str:
    """A part of such a path. Raises HttpError (400) if it is no UTF-8."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise bad_request("the path is no UTF-8") from None
