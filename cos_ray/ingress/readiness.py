"""Whether commands would be taken: what they need is asked for, now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from cos_ray.ports import Clock

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
"""Returns if all is well; anything it raises says that it is not."""

HOLDS_FOR = 1.0
"""Seconds for which an answer holds: however many ask, the parts are asked once."""

ANSWER_WITHIN = 2.0
"""Seconds within which each part has to answer."""


class Readiness:
    """Asks the parts a command needs; each has a name."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock) -> None:
        self._checks = checks
        self._clock = clock
        self._asked_at = float("-inf")
        self._asking: asyncio.Future[tuple[str, ...]] | None = None
        self._draining = asyncio.Event()
        self.has_failed: Callable[[], bool] = lambda: False
        """Whether this process's ports do not answer any more."""

    def drain(self) -> None:
        """From now on this process is not ready: it is about to stop."""
        self._draining.set()

    @property
    def is_draining(self) -> bool:
        """Whether this process is about to stop."""
        return self._draining.is_set()

    @property
    def serves(self) -> bool:
        """Whether this process takes requests, whatever becomes of them."""
        return not (self.is_draining or self.has_failed())

    async def drains_within(self, seconds: float) -> bool:
        """Return after so many seconds, or as soon as this process is about to stop; whether it is."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)
        return self.is_draining

    async def faults(self) -> tuple[str, ...]:
        """The names of the parts that do not work; empty when all do."""
        if not self.serves:
            return ("ingress",)
        now = self._clock.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked_at >= HOLDS_FOR):
            self._asked_at = now
            self._asking = asyncio.ensure_future(self._ask())
        # Others may wait for the same answer.
        return await asyncio.shield(self._asking)

    async def _ask(self) -> tuple[str, ...]:
        answers = await asyncio.gather(*[self._is_well(name) for name in self._checks])
        return tuple(name for name, is_well in zip(self._checks, answers, strict=True) if not is_well)

    async def _is_well(self, name: str) -> bool:
        try:
            await asyncio.wait_for(self._checks[name](), ANSWER_WITHIN)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not well
            logger.info("a part is not ready", extra={"part": name, "reason": repr(error)})
            return False
        return True
