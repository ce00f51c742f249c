"""
A block of ports for one service alone, for as long as it runs.

Serve's replicas listen with SO_REUSEPORT: of two services that choose the same port on one machine
neither fails, and each answers requests that were meant for the other.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cos_ray.domain.errors import StartFailed

SIZE = 100
"""Ports in a block."""

_FIRST, _LAST = 20_000, 32_000
"""Below those from which systems take the ports of outgoing connections."""


@contextmanager
def reserved_block() -> Iterator[range]:
    """Ports that no other service of this machine has reserved, nor anyone listens on. Raises StartFailed."""
    bases = list(range(_FIRST, _LAST, SIZE))
    random.shuffle(bases)
    listening = _listening()
    for base in bases:
        block = range(base, base + SIZE)
        if listening.isdisjoint(block):
            with _lock(base) as is_ours:
                if is_ours:
                    yield block
                    return
    raise StartFailed(f"no {SIZE} ports in a row are free between {_FIRST} and {_LAST}")


@contextmanager
def _lock(base: int) -> Iterator[bool]:
    """Whether the block is ours within this context; the lock goes with this process."""
    if sys.platform == "linux":
        with _named(base) as is_ours:
            yield is_ours
        return
    path = Path(tempfile.gettempdir()) / f"cos-ray-ports-{base}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:  # another user's, who may be using it
        yield False
        return
    try:
        yield _is_locked(lock)
    finally:
        os.close(lock)


@contextmanager
def _named(base: int) -> Iterator[bool]:
    # A name without a file: known wherever the ports are, to all users, and whatever TMPDIR says.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0cos-ray-ports-{base}")
        except OSError:
            yield False
            return
        yield True


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _listening() -> set[int]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return set()
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}
