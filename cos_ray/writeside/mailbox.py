"""
Runs an entity's commands one at a time, in order of arrival, and bounds how many wait.

Nothing else serializes an entity. An async Ray actor interleaves its calls and promises
no order among them.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from cos_ray.domain.errors import CosError, MailboxFull, OutOfTime, Withdrawn
from cos_ray.domain.ids import CommandId
from cos_ray.ports import Clock

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:
    from async_timeout import timeout as time_limit

__all__ = ["Deadline", "time_limit"]

_Answer = TypeVar("_Answer")


class Deadline:
    """By when a command is to be answered."""

    __slots__ = ("_at", "_clock")

    def __init__(self, clock: Clock, at: float) -> None:
        """`at`: by the clock's `monotonic`."""
        self._clock = clock
        self._at = at

    def left(self) -> float:
        """Seconds until then. Raises OutOfTime when none are left for another call."""
        left = self._at - self._clock.monotonic()
        if left <= 0:
            raise OutOfTime
        return left

    async def wait_for(self, question: Awaitable[_Answer]) -> _Answer:
        """The answer to a question that costs nothing to give up. Raises OutOfTime."""
        try:
            async with time_limit(max(0.0, self._at - self._clock.monotonic())):
                return await question
        except asyncio.TimeoutError:
            raise OutOfTime from None


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    command_id: CommandId
    turn: asyncio.Future[None]

    @property
    def has_turn(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class Mailbox:
    """Grants turns first come, first served."""

    __slots__ = ("_capacity", "_taken", "_waiting")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._taken = False
        # Made when first needed: an empty one takes as much memory as all the rest of an entity.
        self._waiting: deque[_Waiting] | tuple[()] = ()

    def turn(self, command_id: CommandId, within: float) -> _Turn:
        """
        Wait for the turn, for so many seconds, and hold it.

        Raises MailboxFull at once if too many wait already, OutOfTime, and Withdrawn.
        """
        return _Turn(self, command_id, within)

    async def enter(self, command_id: CommandId, within: float) -> None:
        """Take the turn; `turn` gives it back in any case."""
        if self._taken:
            await self._wait(command_id, within)
        self._taken = True

    def leave(self) -> None:
        """Give the turn back."""
        self._pass_on()

    def withdraw(self, command_id: CommandId) -> None:
        """Take a command back if its turn has not come yet."""
        for waiting in [each for each in self._waiting if each.command_id == command_id]:
            self._send_away(waiting, Withdrawn(command_id))

    @property
    def waiting(self) -> int:
        """How many commands wait, the one in progress not counted."""
        return len(self._waiting)

    async def _wait(self, command_id: CommandId, within: float) -> None:
        if len(self._waiting) >= self._capacity:
            raise MailboxFull
        loop = asyncio.get_running_loop()
        waiting = _Waiting(command_id, loop.create_future())
        if isinstance(self._waiting, tuple):
            self._waiting = deque()
        self._waiting.append(waiting)
        timer = loop.call_later(within, self._send_away, waiting, OutOfTime())
        try:
            await waiting.turn
        except BaseException:
            if waiting.has_turn:
                # Cancelled in the moment its turn came: that turn is another's.
                self._pass_on()
            else:
                self._forget(waiting)
            raise
        finally:
            timer.cancel()

    def _send_away(self, waiting: _Waiting, reason: CosError) -> None:
        if not waiting.turn.done():
            self._forget(waiting)
            waiting.turn.set_exception(reason)

    def _forget(self, waiting: _Waiting) -> None:
        if waiting in self._waiting and not isinstance(self._waiting, tuple):
            self._waiting.remove(waiting)

    def _pass_on(self) -> None:
        """Whose turn is next; between two it stays taken, so that no one slips in."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.turn.done():
                waiting.turn.set_result(None)
                return
        self._taken = False


class _Turn:
    """A turn as a block; a generator in its place would take three times as long."""

    __slots__ = ("_command_id", "_mailbox", "_within")

    def __init__(self, mailbox: Mailbox, command_id: CommandId, within: float) -> None:
        self._mailbox = mailbox
        self._command_id = command_id
        self._within = within

    async def __aenter__(self) -> None:
        await self._mailbox.enter(self._command_id, self._within)

    async def __aexit__(self, *error: object) -> None:
        self._mailbox.leave()
