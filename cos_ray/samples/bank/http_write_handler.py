"""
The write handler over HTTP/JSON, for who would rather not serve gRPC.

The service posts a command, or an event, with the state before it. Every message is the base64 of
a `google.protobuf.Any`; what is empty is left out, in what comes and in what goes.
"""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from cos_ray.samples.bank.accounts import COMMANDS, EVENTS, Refusal, handle_command, handle_event
from cos_ray.samples.bank.unpacking import NotUnderstood, unpack
from cos_ray.samples.bank.write_handler import account_in

HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
}
"""What the service makes of these is the code beside them."""

api = FastAPI(title="bank")


@api.post("/v1/writeside/handleCommand")
async def command(request: Request) -> dict[str, list[str]]:
    """Which events does this command lead to?"""
    fields = await _fields(request)
    asked = unpack(_any(fields, "command"), COMMANDS)
    events = handle_command(asked, account_in(_any(fields, "prior_state")))
    return {"events": [_text(event) for event in events]}


@api.post("/v1/writeside/handleEvent")
async def event(request: Request) -> dict[str, str]:
    """Which state does this event lead to?"""
    fields = await _fields(request)
    happened = unpack(_any(fields, "event"), EVENTS)
    return {"resulting_state": _text(handle_event(happened, account_in(_any(fields, "prior_state"))))}


@api.exception_handler(Refusal)
async def refused(request: Request, refusal: Refusal) -> Response:
    """The client gets code and reason of an `error` as they are written here."""
    return JSONResponse({"error": f"{refusal.code.name}: {refusal.reason}"}, HTTP_STATUS[refusal.code])


@api.exception_handler(NotUnderstood)
async def not_understood(request: Request, error: NotUnderstood) -> Response:
    """Whatever is no command of the bank."""
    return JSONResponse({"error": f"INVALID_ARGUMENT: {error}"}, 400)


async def serve_http_write_handler(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the port cannot be had."""
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # A reply is written in two parts. Without this the second waits 40 ms for news of the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(uvicorn.Config(api, log_level="warning"))
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_, server.stop)
    address = f"[{host}]" if ":" in host else host
    print(f"bank HTTP write handler listening on {address}:{listening.getsockname()[1]}", flush=True)
    await server.serve([listening])


class _Server(uvicorn.Server):
    """Leaves signals to those who started it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


async def _fields(request: Request) -> dict[str, str]:
    fields = await request.json()
    if not isinstance(fields, dict):
        raise HTTPException(400, "this is no JSON object")
    return fields


def _any(fields: dict[str, str], name: str) -> Any:
    try:
        return Any.FromString(base64.b64decode(fields.get(name, ""), validate=True))
    except (DecodeError, ValueError) as error:
        raise NotUnderstood(f"{name} is no base64 of a google.protobuf.Any") from error


def _text(message: Message) -> str:
    return base64.b64encode(pack(message).SerializeToString()).decode("ascii")
