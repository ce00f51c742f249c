"""
Whether a process that is there hangs: it does not answer what it should answer at once.

Looks are counted, and not time: a supervisor that was itself held up, or whose machine was, finds the answer
when it goes on, before it has looked often enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LOOK_EVERY = 1.0
"""Seconds between two looks whether the answer has come."""

LOOKS = 5
"""How many looks in vain mean that a process hangs that has answered before."""

Sleep = Callable[[float], Awaitable[None]]


async def falls_silent(answer: Awaitable[object], sleep: Sleep, looks: int = LOOKS) -> bool:
    """Whether so many looks, a second apart, find no answer; raises what the answer raises."""
    asked = asyncio.ensure_future(answer)
    try:
        for _ in range(looks):
            look = asyncio.ensure_future(sleep(LOOK_EVERY))
            await asyncio.wait({asked, look}, return_when=asyncio.FIRST_COMPLETED)
            look.cancel()
            if asked.done():
                asked.result()
                return False
        return True
    finally:
        asked.cancel()


class Silence:
    """Tells of a call that does not return, again and again: who is asked may not know of it at first."""

    __slots__ = ("_after", "_loop", "_tell", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float, tell: Callable[[], None]) -> None:
        """`after`: so many seconds, each time."""
        self._loop, self._after, self._tell = loop, after, tell
        self._timer = loop.call_later(after, self._lasts)

    def end(self) -> None:
        """The call has returned."""
        self._timer.cancel()

    def _lasts(self) -> None:
        self._timer = self._loop.call_later(self._after, self._lasts)
        self._tell()
