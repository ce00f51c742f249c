"""Whether entities can be reached: whether Ray's head answers."""

from __future__ import annotations

import asyncio

import ray


async def check_cluster() -> None:
    """Return if the cluster answers; raises, or takes long, if it does not."""
    await asyncio.to_thread(ray.nodes)
