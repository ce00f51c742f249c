"""A subscription as server-sent events, for browsers and curl."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any as Anything

from fastapi.responses import StreamingResponse

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.headers import header_text
from cos_ray.ingress.http_context import HttpContext
from cos_ray.ingress.http_errors import HttpError, error_body
from cos_ray.ingress.status import StreamRefused
from cos_ray.ingress.subscription_start import FROM_OFFSET, FROM_REVISION
from cos_ray.subscriptions.failover_check import WENT_BACK

HEARTBEAT = 15.0
"""Seconds after which a comment is sent in a silent stream: who has gone is noticed, no proxy gives up."""

SUBSCRIPTION_ID = "x-cos-subscription-id"

Shown = Callable[[Anything], tuple[str, Anything]]
"""Of a message its id, for Last-Event-ID, and its JSON."""


async def event_stream(
    messages: AsyncGenerator[Anything, None], context: HttpContext, subscription_id: str, shown: Shown
) -> StreamingResponse:
    """The response, once the stream is let in. Raises HttpError if it is not."""
    first = asyncio.ensure_future(anext(messages))
    opened = asyncio.ensure_future(context.opened.wait())
    try:
        await asyncio.wait({first, opened}, return_when=asyncio.FIRST_COMPLETED)
        if first.done() and isinstance(first.exception(), StreamRefused):
            raise HttpError(context.status or Status(Code.UNKNOWN))
    except BaseException:
        first.cancel()
        raise
    finally:
        opened.cancel()
    return StreamingResponse(
        _lines(messages, first, context, shown),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", SUBSCRIPTION_ID: header_text(subscription_id)},
    )


async def _lines(
    messages: AsyncGenerator[Anything, None],
    coming: asyncio.Future[Anything],
    context: HttpContext,
    shown: Shown,
) -> AsyncIterator[bytes]:
    try:
        # The headers are on their way only with the first bytes.
        yield b": open\n\n"
        while True:
            await asyncio.wait({coming}, timeout=HEARTBEAT)
            if not coming.done():
                yield b": still here\n\n"
                continue
            try:
                id_, form = shown(coming.result())
            except StopAsyncIteration:
                yield b"event: end\ndata: {}\n\n"
                return
            except StreamRefused:
                status = context.status or Status(Code.UNKNOWN)
                head = _place_to_come_back_to(status)
                yield f"{head}event: error\ndata: {json.dumps(error_body(status))}\n\n".encode()
                return
            head = f"id: {id_}\n" if id_ else ""
            yield f"{head}data: {json.dumps(form)}\n\n".encode()
            coming = asyncio.ensure_future(anext(messages))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await messages.aclose()


def _place_to_come_back_to(status: Status) -> str:
    """
    The line with the id from which a browser, which comes back by itself, is to go on; mostly none.

    Where the journal went back, the last id that it was sent means another event by now.
    """
    trailers = dict(status.trailers)
    if (offset := trailers.get(FROM_OFFSET)) is not None:
        return f"id: {offset}\n"
    if (revision := trailers.get(FROM_REVISION)) is not None:
        return f"id: {int(revision) - 1}\n"
    # An empty one is forgotten: what is new is heard, and what is missing was said.
    return "id\n" if status.message == WENT_BACK.message else ""


def new_subscription_id() -> str:
    """For who brings none."""
    return str(uuid.uuid4())
