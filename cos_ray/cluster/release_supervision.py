"""
What a release supervisor does: starts its release, hears its replicas, and ends it when none is left.

Free of Ray: starting, ending and the head are handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.release_lease import LOOK_EVERY, ReleaseLease

logger = logging.getLogger(__name__)


class ReleaseSupervision:
    """One release's. To be made in the event loop it is to work in."""

    def __init__(
        self,
        start: Callable[[], None],
        end: Callable[[], None],
        can_hear: Callable[[], Awaitable[bool]],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`start` and `end` block and may be called again; `can_hear`: whether replicas could say a word."""
        self._end = end
        self._can_hear = can_hear
        self._pause = pause
        self._tenure = ReleaseLease()
        self._is_leaving = False
        self._starting = asyncio.get_running_loop().create_task(asyncio.to_thread(start))

    async def note(self) -> bool | StartFailed:
        """A replica is there; False: the release is ending. Answers once the parts run."""
        if self._is_leaving:
            return False
        self._tenure.note()
        try:
            await asyncio.shield(self._starting)
        except Exception as error:  # noqa: BLE001 - whatever it is
            # Begun only once: who stayed would answer this for ever. Another supervisor may fare better.
            self._is_leaving = True
            return error if isinstance(error, StartFailed) else StartFailed(repr(error))
        return True

    async def run(self) -> None:
        """Return when the release is over and ended."""
        while not self._is_leaving:
            await self._pause(LOOK_EVERY)
            if await self._can_hear():
                self._tenure.look(is_starting=not self._starting.done())
            if self._tenure.is_over():
                self._is_leaving = True
        logger.info("a release ends")
        while not await self._has_ended():
            await self._pause(LOOK_EVERY)

    async def _has_ended(self) -> bool:
        try:
            await asyncio.to_thread(self._end)
        except Exception as error:  # noqa: BLE001 - whatever it is
            # Who stayed half way would keep its name, and no other supervisor could come.
            logger.warning("a release cannot be ended yet", extra={"reason": repr(error)})
            return False
        return True
