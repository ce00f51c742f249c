"""Run a gRPC server the way a process manager expects: say when it listens, stop when told."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import grpc.aio

GRACE = 5.0
"""How long calls under way may take once the server is told to stop, in seconds."""


async def serve(
    server: grpc.aio.Server,
    name: str,
    host: str,
    port: int,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """
    Listen, print one line that says where, and return after SIGTERM or SIGINT.

    `before_stop` ends what would otherwise last until the server's grace is over. Port 0 takes a free
    one. Raises OSError when the port cannot be had.
    """
    told_to_stop = asyncio.Event()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_, told_to_stop.set)
    address = f"[{host}]" if ":" in host else host
    try:
        port = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError as error:
        raise OSError(f"{address}:{port} cannot be listened on; is the port in use?") from error
    await server.start()
    # Flushed, because whoever started this process may be waiting for the line.
    print(f"{name} listening on {address}:{port}", flush=True)
    await told_to_stop.wait()
    if before_stop is not None:
        await before_stop()
    await server.stop(GRACE)
