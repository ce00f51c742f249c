"""
A handler that comes back on another address under the same name; run by `test_handler_moves`.

To be run in a mount and network namespace of its own, where names and addresses may be changed:

    unshare --map-root-user --mount --net python -m tests.support.moved_handler SCENARIO KIND

Prints one line of JSON: for how many seconds calls failed, and how they ended meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import grpc.aio

from cos_ray.domain.errors import DeliveryFailed, HandlerFailed
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import EventEnvelope, Meta
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint
from cos_ray.handlers.grpc_read import GrpcReadHandler
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2_grpc import (
    ReadSideHandlerServiceServicer,
    add_ReadSideHandlerServiceServicer_to_server,
)
from tests.support import handler as kit

NAME = "handler.test"
PORT = 7788
OLD, NEW, NOWHERE = "10.77.0.2", "10.77.0.3", "10.78.0.9"
CALL_TIMEOUT = 1.0
AWAY = 6.0
"""Seconds for which nobody is there: long enough that waits between two tries have grown."""


class Names:
    """What the name stands for, in this namespace."""

    def __init__(self) -> None:
        self._file = Path(tempfile.mkdtemp()) / "hosts"
        self.set(OLD)
        _run("mount", "--bind", str(self._file), "/etc/hosts")

    def set(self, *addresses: str) -> None:
        """From now on, in this order."""
        self._file.write_text("".join(f"{address} {NAME}\n" for address in addresses))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Reads(ReadSideHandlerServiceServicer):
    """A read handler that confirms everything."""

    async def HandleReadSide(self, request: HandleReadSideRequest, context: Any) -> HandleReadSideResponse:
        return HandleReadSideResponse(successful=True)


class Server:
    """The handler, of whichever kind, on one address."""

    everyone: ClassVar[list[Server]] = []  # or the garbage collector ends them

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._stack = AsyncExitStack()
        self.everyone.append(self)

    async def start(self, host: str) -> None:
        if self._kind == "grpc-read":
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            add_ReadSideHandlerServiceServicer_to_server(Reads(), server)
            server.add_insecure_port(f"{host}:{PORT}")
            await server.start()
            self._stack.push_async_callback(server.stop, 0)
            return
        stage = {"grpc": kit.GrpcStage, "http": kit.HttpStage}[self._kind]()
        await self._stack.enter_async_context(stage.listening(PORT, host=host))

    async def stop(self) -> None:
        await self._stack.aclose()


def caller(kind: str) -> Any:
    """A call to the handler as the service makes it."""
    if kind != "grpc-read":
        target = {"grpc": GrpcEndpoint, "http": HttpEndpoint}[kind](NAME, PORT)
        handler = kit.built(target)
        return lambda: kit.ask(handler, timeout=CALL_TIMEOUT)
    reader = GrpcReadHandler(GrpcEndpoint(NAME, PORT), timedelta(seconds=CALL_TIMEOUT))
    event = kit.packed(kit.OPEN)
    envelope = EventEnvelope(event, event, Meta(kit.ADA, 1), 1)  # type: ignore[arg-type]
    return lambda: reader.handle(ReadSideId("r"), Shard(0), envelope)


async def outage(call: Any) -> dict[str, Any]:
    """Call until it goes well."""
    began, ends = time.monotonic(), Counter[str]()
    while time.monotonic() - began < 60:
        try:
            await call()
            return {"seconds": time.monotonic() - began, "ends": dict(ends)}
        except (HandlerFailed, DeliveryFailed) as error:
            status = getattr(error, "status", None)
            ends[status.code.name if status else error.code.name] += 1
            await asyncio.sleep(0.05)
    return {"seconds": 60.0, "ends": dict(ends)}


async def moves(kind: str, names: Names, call: Any, server: Server) -> dict[str, Any]:
    """It ends, nobody is there for a while, and it comes back elsewhere."""
    await server.stop()
    until = time.monotonic() + AWAY
    while time.monotonic() < until:
        try:
            await call()
        except (HandlerFailed, DeliveryFailed):
            await asyncio.sleep(0.05)
    await Server(kind).start(NEW)
    names.set(NEW)
    return await outage(call)


async def vanishes(kind: str, names: Names, call: Any, server: Server) -> dict[str, Any]:
    """Its machine is gone without a word; another takes its place."""
    await Server(kind).start(NEW)
    names.set(NEW)
    _run("ip", "address", "del", f"{OLD}/32", "dev", "lo")
    return await outage(call)


async def first_address_is_dead(kind: str, names: Names, call: Any, server: Server) -> dict[str, Any]:
    """The name has two addresses, and behind the first nobody answers."""
    await server.stop()
    await Server(kind).start(NEW)
    names.set(NOWHERE, NEW)
    return await outage(call)


async def main(scenario: str, kind: str) -> None:
    _run("ip", "link", "set", "lo", "up")
    for address in (OLD, NEW):
        _run("ip", "address", "add", f"{address}/32", "dev", "lo")
    # What is sent there is lost.
    _run("ip", "link", "add", "void", "type", "veth", "peer", "name", "beyond")
    _run("ip", "address", "add", "10.78.0.1/24", "dev", "void")
    for end in ("void", "beyond"):
        _run("ip", "link", "set", end, "up")
    _run("ip", "neighbour", "add", NOWHERE, "lladdr", "02:00:00:00:00:01", "dev", "void")
    names, server, call = Names(), Server(kind), caller(kind)
    await server.start(OLD)
    await outage(call)
    play = {"moves": moves, "vanishes": vanishes, "first-address-is-dead": first_address_is_dead}[scenario]
    print(json.dumps(await play(kind, names, call, server)), flush=True)
    # Connections that lead nowhere are not worth an orderly end.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
