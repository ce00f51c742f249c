"""Whether entities can be reached: whether Ray's head answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import ray


class HeadProbe:
    """
    Ray's head node, as one process asks it, in a thread of its own.

    Ray blocks a thread until the head answers, and giving up does not free it: so there is one
    question at a time, for whose answer all wait who come meanwhile.
    """

    def __init__(self, ask: Callable[[], object] = ray.nodes) -> None:
        self._ask = ask
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="head")
        self._asked: Future[object] | None = None

    async def check(self) -> None:
        """Return if the head answers; raises, or takes long, if it does not."""
        if self._asked is None or self._asked.done():
            self._asked = self._thread.submit(self._ask)
        await asyncio.shield(asyncio.wrap_future(self._asked))

    async def answers_within(self, seconds: float) -> bool:
        """Whether the head answers in time."""
        try:
            await asyncio.wait_for(self.check(), seconds)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return False
        return True
