"""The last answer on each connection of a process that is about to stop."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
