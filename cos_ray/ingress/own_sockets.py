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
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
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


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that a client made to this process."""

    number: int
    """Of the open file."""
    inode: str
    """The socket behind it, as the system names it; a number is given to another file when it is closed."""
    port: int
    source: str
    """Where it comes from; see `source_of`."""


class OwnConnections:
    """The connections to some ports of this process; only new ones cost more than a glance."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = ports
        self._known: dict[str, Connection | None] = {}
        """By inode, the oldest first; None for sockets that are none of them."""

    def look(self) -> list[Connection]:
        """Those that there are now, the oldest first, as far as they differ by what was seen before."""
        there: dict[str, int] = {}
        # No `Path` for each of some ten thousand files, several times a second.
        for name in os.listdir(_OPEN_FILES) if _OPEN_FILES.exists() else ():  # noqa: PTH208
            with contextlib.suppress(OSError):
                inode = os.readlink(f"{_OPEN_FILES}/{name}")  # noqa: PTH115
                if inode.startswith("socket:"):
                    there[inode] = int(name)
        self._known = {inode: known for inode, known in self._known.items() if inode in there}
        for inode in sorted(there.keys() - self._known.keys(), key=_age):
            with contextlib.suppress(OSError):
                self._known[inode] = self._examined(there[inode], inode)
        return [known for known in self._known.values() if known is not None]

    def _examined(self, number: int, inode: str) -> Connection | None:
        """Raises OSError for what is not connected yet, and for what is none of ours to look at."""
        with _second_way_to(number) as each:
            if each.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            port = each.getsockname()[1]
            if port not in self._ports:
                if not port:
                    raise OSError("it may still get a port")
                return None
            return Connection(number, inode, port, source_of(each.getpeername()[0]))


def shut_down(connection: Connection) -> bool:
    """End it, both ways; its owner then finds that the peer has gone. Whether it was there."""
    try:
        with _second_way_to(connection.number) as each:
            if str((_OPEN_FILES / str(each.fileno())).readlink()) != connection.inode:
                return False
            each.shutdown(socket.SHUT_RDWR)
            return True
    except OSError:
        return False


@lru_cache(maxsize=10_000)
def source_of(address: str) -> str:
    """
    What counts as one address: an IPv4 address, also where it came as IPv6, or 64 bits of IPv6.

    Whoever has one IPv6 address has all of those that begin alike.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


def _age(inode: str) -> int:
    """What rises with each new socket."""
    digits = "".join(filter(str.isdigit, inode))
    return int(digits or 0)


@contextlib.contextmanager
def _second_way_to(number: int) -> Iterator[socket.socket]:
    """To the same socket, which closing leaves as it is. Raises OSError."""
    descriptor = os.dup(number)
    try:
        each = socket.socket(fileno=descriptor)
    except OSError:  # some other file
        os.close(descriptor)
        raise
    with each:
        yield each


def _is_connected(each: socket.socket) -> bool:
    try:
        each.getpeername()
    except OSError:
        return False
    return True


def _sockets_on(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Each by its number and as a second way to the same socket, which closing leaves as it is."""
    for name in [path.name for path in _OPEN_FILES.iterdir()] if _OPEN_FILES.exists() else ():
        with contextlib.suppress(OSError), _second_way_to(int(name)) as each:
            if each.family in (socket.AF_INET, socket.AF_INET6) and each.getsockname()[1] == port:
                yield int(name), each
