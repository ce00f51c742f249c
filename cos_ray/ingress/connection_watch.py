"""
The bounds on connections that a server cannot keep by itself: looked after from outside, again and again.

gRPC's server asks nobody before it takes a connection in, and counts them all together. So the process's own
sockets are looked at, and the newest of those that are too many are shut down: a flood ends before it harms
those who came before it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping

from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.grpc_log import take_counts
from cos_ray.ingress.listener_settings import ListenerBounds
from cos_ray.ingress.own_sockets import Connection, OwnConnections, shut_down
from cos_ray.ingress.refusals import Refusals

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.2
"""Seconds between two looks, at least."""

_SHARE = 20
"""How many times as long as a look took passes until the next: so it takes a small part of a core."""


class ConnectionWatch:
    """Of some ports of this process."""

    def __init__(self, doors: Mapping[int, PublicPort], bounds: ListenerBounds, refusals: Refusals) -> None:
        """`doors`: what is reached by each port that is watched."""
        self._doors = doors
        self._bounds = bounds
        self._refusals = refusals
        self._connections = OwnConnections(set(doors))

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            begun = time.monotonic()
            try:
                for connection, cause in await asyncio.to_thread(self._cut):
                    self._refusals.add(self._doors[connection.port], cause, connection.source)
            except Exception:
                logger.exception("the connections of the public ports could not be looked at")
            paths, answers = take_counts()
            self._refusals.add(PublicPort.GRPC, RefusalCause.ENCODING, number=paths)
            self._refusals.add(PublicPort.GRPC, RefusalCause.BROKEN, number=answers)
            self._refusals.tell()
            await asyncio.sleep(max(LOOK_EVERY, _SHARE * (time.monotonic() - begun)))

    def _cut(self) -> list[tuple[Connection, RefusalCause]]:
        found = surplus(self._connections.look(), self._bounds)
        return [(connection, cause) for connection, cause in found if shut_down(connection)]


def surplus(connections: list[Connection], bounds: ListenerBounds) -> list[tuple[Connection, RefusalCause]]:
    """Those, of connections from the oldest to the newest, that are too many on their port."""
    kept: Counter[int] = Counter()
    of_source: Counter[tuple[int, str]] = Counter()
    too_many = []
    for each in connections:
        if of_source[each.port, each.source] >= bounds.connections_per_address:
            too_many.append((each, RefusalCause.ADDRESS))
        elif kept[each.port] >= bounds.connections:
            too_many.append((each, RefusalCause.CONNECTIONS))
        else:
            kept[each.port] += 1
            of_source[each.port, each.source] += 1
    return too_many
