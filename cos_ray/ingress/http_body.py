"""A request's body: read within bounds, and understood or refused; and whether its client is still there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.http_errors import HttpError, bad_request
from cos_ray.protocol.json_form import Json

_Reply = TypeVar("_Reply")


async def read_object(request: Request, largest: int, known: Collection[str]) -> dict[str, Json]:
    """
    The JSON object in the body, of known fields only; an empty body is an empty one.

    Raises HttpError: 413 for more than `largest` bytes, 400 for what is no such object.
    """
    body = await _read(request, largest)
    if not body.strip():
        return {}
    try:
        fields = json.loads(body)
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except ValueError:
        raise bad_request("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise bad_request("the body is no JSON object")
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise bad_request(f"unknown field {unknown[0][:100]!r}; known: {', '.join(sorted(known))}")
    return fields


async def while_connected(request: Request, call: Coroutine[Any, Any, _Reply]) -> _Reply:
    """
    What the call returns; cancelled when the client hangs up. The body must have been read.

    Raises ClientDisconnect then.
    """
    calling, leaving = asyncio.ensure_future(call), asyncio.ensure_future(_hung_up(request))
    try:
        awaited: list[asyncio.Future[Any]] = [calling, leaving]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise ClientDisconnect
        return calling.result()
    finally:
        leaving.cancel()
        if not calling.done():
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, largest: int) -> bytes:
    too_large = HttpError(Status(Code.RESOURCE_EXHAUSTED, f"the body is larger than {largest} bytes"), 413)
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > largest:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise too_large
    return bytes(body)
