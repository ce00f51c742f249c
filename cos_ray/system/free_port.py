"""A port to listen on, where nobody has said which."""

from __future__ import annotations

import contextlib
import random
import socket

_PORTS = range(3_000, 10_000)
"""
Below those of Ray's workers (from 10,002) and of outgoing connections, from which systems pick when they
are asked for any port: what is free there may be taken a moment later.
"""

_untried: list[int] = []


def free_port() -> int:
    """A port on the loopback that nobody listens on; not one that was given before. Raises OSError."""
    if not _untried:
        _untried.extend(random.sample(_PORTS, len(_PORTS)))
    while _untried:
        port = _untried.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port is free on 127.0.0.1 from {_PORTS.start} to {_PORTS.stop - 1}")
