"""
Calls a handler over HTTP/JSON, of whichever side.

Only 200 is success; what else a handler may say is in `http_status`, what the JSON looks like in
`cos_ray.protocol.json_form`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import Header, Headers
from cos_ray.handlers.endpoints import TOO_LARGE, HttpEndpoint, Tls
from cos_ray.handlers.http_status import status_of
from cos_ray.handlers.trace_headers import Outgoing, with_trace
from cos_ray.protocol.json_form import Json, without_empty

_OURS = frozenset({"connection", "content-length", "content-type", "host", "te", "transfer-encoding"})
"""Headers that are not the client's to set: they say how this very request is to be read."""

CONNECT_TIMEOUT = 3.0
"""
Seconds to connect, and as many for TLS. What takes longer is no handler, and, unlike one that does
not answer, has not been given the command.
"""

_IDLE = 4.0
"""Seconds an unused connection is kept. Common servers close theirs after five."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back, read to its end."""

    status: int
    content_type: str
    body: bytes


class HttpCaller:
    """The way to a handler behind an HTTP address; `who` it is, for messages."""

    def __init__(self, target: HttpEndpoint, who: str, outgoing: Outgoing | None = None) -> None:
        """`outgoing`: tells of the current trace, where traces are on."""
        self._target = target
        self._outgoing = outgoing
        self._who = who
        self._base = f"{'http' if target.tls is None else 'https'}://{target}"
        self._extensions: dict[str, object] = {"timeout": {"connect": CONNECT_TIMEOUT}}
        if target.tls is not None and target.tls.server_name is not None:
            self._extensions["sni_hostname"] = target.tls.server_name
        self._opened: list[httpx.AsyncHTTPTransport] = []
        self._free: list[httpx.AsyncHTTPTransport] = []
        self._tls: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Close the connections; calls in progress are cut."""
        opened, self._opened, self._free = self._opened, [], []
        for transport in opened:
            await transport.aclose()

    async def post(
        self, path: str, request: dict[str, Json], headers: Headers, timeout: float
    ) -> Mapping[str, Json]:
        """The JSON object the handler answers with; `timeout` in seconds. Raises HandlerFailed."""
        headers = with_trace(headers, self._outgoing)
        body = json.dumps(without_empty(request)).encode()
        if len(body) > self._target.message_limit and not self._target.sends_anything:
            text = f"the request of {len(body)} bytes is too large for {self._who}: {TOO_LARGE}"
            raise HandlerFailed(Status(Code.RESOURCE_EXHAUSTED, text))
        try:
            answer = await asyncio.wait_for(self._exchange(path, body, headers), timeout)
        except asyncio.TimeoutError as error:
            text = f"{self._who} did not answer in time"
            raise HandlerFailed(Status(Code.DEADLINE_EXCEEDED, text)) from error
        except (httpx.LocalProtocolError, UnicodeError) as error:  # httpx's words for what it cannot send
            text = f"a request header cannot be passed on: {error}"
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, text)) from error
        except httpx.DecodingError as error:
            raise broken(self._who, "its compression is broken") from error
        except (httpx.TransportError, OSError) as error:
            text = f"{self._who} at {self._target} cannot be reached: {str(error) or type(error).__name__}"
            raise HandlerFailed(Status(Code.UNAVAILABLE, text)) from error
        if answer.status != 200:
            raise HandlerFailed(status_of(answer.status, answer.content_type, answer.body, self._who))
        return _object(self._who, answer.body)

    async def _exchange(self, path: str, body: bytes, headers: Headers) -> _Answer:
        try:
            return await self._send(path, body, headers)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # Most often a kept connection that the server closed in this very moment. A handler's
            # functions store nothing, so asking once more does no harm.
            return await self._send(path, body, headers)

    async def _send(self, path: str, body: bytes, headers: Headers) -> _Answer:
        request = httpx.Request(
            "POST",
            self._base + path,
            headers=[
                ("content-type", "application/json"),
                ("accept", "application/json"),
                ("accept-encoding", "identity"),
                *(_sent(header) for header in headers if header.key.lower() not in _OURS),
            ],
            content=body,
            extensions=self._extensions,
        )
        # One connection each, the last used first: httpx looks through all of a pool's with every
        # request, and with a few dozen at once that is most of what a command costs.
        transport = self._free.pop() if self._free else self._open()
        try:
            return await self._exchanged(transport, request)
        finally:
            if transport in self._opened:
                self._free.append(transport)

    async def _exchanged(self, transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> _Answer:
        response = await transport.handle_async_request(request)
        try:
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                # Decompressed as it comes, so a small reply cannot unfold beyond the limit either.
                if len(received) > self._target.message_limit:
                    limit = f"{self._target.message_limit} bytes"
                    text = f"{self._who}'s reply is larger than {limit}"
                    raise HandlerFailed(Status(Code.RESOURCE_EXHAUSTED, text))
        finally:
            await response.aclose()
        return _Answer(response.status_code, response.headers.get("content-type", ""), bytes(received))

    def _open(self) -> httpx.AsyncHTTPTransport:
        # In the loop that uses it, on first use. Below httpx's client: no cookies are kept, no
        # redirects followed, no proxies of the environment asked.
        if self._tls is None:
            tls = self._target.tls
            # A plain target's context is never used, but httpx would load certificates for one.
            self._tls = _context(tls) if tls is not None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_IDLE),
        )
        self._opened.append(transport)
        return transport


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _sent(header: Header) -> tuple[str, str]:
    if isinstance(header.value, bytes):
        return header.key, base64.b64encode(header.value).decode("ascii")
    return header.key, header.value


def _object(who: str, body: bytes) -> Mapping[str, Json]:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise broken(who, "it is no JSON") from error
    if not isinstance(reply, dict):
        raise broken(who, "it is no JSON object")
    return reply


def broken(who: str, problem: str) -> HandlerFailed:
    """What to say of a reply that is not as agreed."""
    return HandlerFailed(Status(Code.INTERNAL, f"{who}'s reply cannot be read: {problem}"))
