"""Ports of this machine: whether one is free, and who holds it if not."""

from __future__ import annotations

import contextlib
import socket

import psutil

from cos_ray.domain.errors import StartFailed


def ensure_free(host: str, port: int, variable: str) -> None:
    """Raises StartFailed, naming the variable and who listens there, if the port is taken."""
    _bound(host, port, variable).close()


def reserved(host: str, port: int, variable: str) -> socket.socket:
    """
    Keep the port for this user's processes that share it on purpose (SO_REUSEPORT), until this is closed.

    Replicas share it, and two services would, too: each would answer requests meant for the other. Raises
    StartFailed like `ensure_free`.
    """
    holder = _bound(host, port, variable)
    # Only now: to bind, it had to be alone. And nobody else may be who does not mean to share.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return holder


def _bound(host: str, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # As servers do: a port that merely lingers from an ended connection is free.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        holder = holder_of(port)
        reason = f"is in use by {holder}" if holder else f"cannot be used: {error.strerror}"
        raise StartFailed(f"port {port} on {host} ({variable}) {reason}") from error
    return bound


def holder_of(port: int) -> str | None:
    """Which process listens on the port, as a person would name it; None if nobody can be seen."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return "another user's process"
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return None


def reachable(host: str) -> str:
    """An address by which a client on this machine reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
