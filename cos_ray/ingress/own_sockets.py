"""
This process's sockets on a port, also those that a library keeps to itself.

gRPC's server can only be stopped as a whole: from then on it cancels what still arrives on connections
whose clients have not heard of it. So it is made to listen no more, goes on serving the connections that
there are, and is stopped when its clients have left them (COS_MAX_CONNECTION_AGE makes them).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_OPEN_FILES = Path("/proc/self/fd")


def stop_listening(port: int) -> int:
    """Take in no more connections on this port; how many sockets listened on it."""
    count = 0
    for number, each in _sockets_on(port):
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # Its owner is left with a socket on which nothing ever comes: one that was shut down would be an
            # error that gRPC goes on meeting.
            with socket.socket(each.family, socket.SOCK_STREAM) as deaf:
                os.dup2(deaf.fileno(), number, inheritable=False)
            count += 1
    return count


def open_connections(port: int) -> int:
    """How many connections there are to this port of this process."""
    return sum(_is_connected(each) for _, each in _sockets_on(port))


def _is_connected(each: socket.socket) -> bool:
    try:
        each.getpeername()
    except OSError:
        return False
    return True


def _sockets_on(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Each by its number and as a second way to the same socket, which closing leaves as it is."""
    for name in [path.name for path in _OPEN_FILES.iterdir()] if _OPEN_FILES.exists() else ():
        with contextlib.suppress(OSError):
            descriptor = os.dup(int(name))
            try:
                each = socket.socket(fileno=descriptor)
            except OSError:  # some other file
                os.close(descriptor)
                continue
            with each:
                if each.family in (socket.AF_INET, socket.AF_INET6) and each.getsockname()[1] == port:
                    yield int(name), each
