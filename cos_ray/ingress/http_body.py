"""A request's body: read within bounds, and understood or refused; and whether its client is still there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.http_errors import HttpError, bad_request
from cos_ray.protocol.json_form import Json

MOST_VALUES = 100_000
"""
In one body. It is parsed in the replica's loop, and nobody is answered meanwhile.

A byte of JSON may be a value: 32 MiB of them take seconds, and 64 bytes of memory each.
"""

_STRUCTURE = (b",", b"[", b"{", b":")
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""A JSON string; one without an end is matched to the end of the body, so that no byte is looked at twice."""

_Reply = TypeVar("_Reply")


async def read_object(
    request: Request, largest: int, known: Collection[str], required: Collection[str] = ()
) -> dict[str, Json]:
    """
    The JSON object in the body, of known fields only, the `required` ones among them.

    Raises HttpError: 413 for more than `largest` bytes or MOST_VALUES values, 415 for a compressed body,
    400 for what is no such object.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        message = f"content-encoding is {encoding[:100]!r}; bodies are taken uncompressed only"
        raise HttpError(Status(Code.INVALID_ARGUMENT, message), 415)
    fields = _parsed(await _read(request, largest), request.headers.get("content-type", ""))
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise bad_request(f"unknown field {unknown[0][:100]!r}; known: {', '.join(sorted(known))}")
    for name in required:
        if fields.get(name) is None:
            raise bad_request(f"field {name!r} is missing")
    return fields


def _parsed(body: bytes, content_type: str) -> dict[str, Json]:
    if not body.strip():
        raise bad_request("the body is empty; a JSON object is due")
    if _has_too_many_values(body):
        message = f"the body has more than {MOST_VALUES} values; send an Any as bytes, in base64"
        raise HttpError(Status(Code.RESOURCE_EXHAUSTED, message), 413)
    try:
        fields = json.loads(body, object_pairs_hook=_each_once, parse_constant=_no_json)
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except ValueError:
        # Who sends another kind of body is to see it; JSON under another name is taken.
        is_said = content_type and "json" not in content_type.lower()
        kind = f"; content-type is {content_type[:100]!r}" if is_said else ""
        raise bad_request(f"the body is no JSON{kind}") from None
    if not isinstance(fields, dict):
        raise bad_request("the body is no JSON object")
    return fields


def _has_too_many_values(body: bytes) -> bool:
    # What stands in texts does not count, but is left out only where it matters: that takes longer.
    return _values(body) > MOST_VALUES and _values(_TEXT.sub(b"", body)) > MOST_VALUES


def _values(body: bytes) -> int:
    """How many values there are at the most."""
    return sum(map(body.count, _STRUCTURE))


def _each_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise bad_request(f"field {twice[:100]!r} is given twice")
    return fields


def _no_json(constant: str) -> Json:
    """Python would take NaN and the infinities."""
    raise ValueError(constant)


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
