"""The command that an entity is at, and whether its client still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cos_ray.domain.errors import Withdrawn
from cos_ray.domain.ids import CommandId

_Answer = TypeVar("_Answer")


class RunningCommand:
    """
    One command, from its turn to its end.

    Only its calls to the handler end when it is withdrawn. A call runs in the task of its command, so that
    it costs nothing more; to end it, that task is cancelled, and told afterwards that it was not.
    """

    __slots__ = ("_asking", "_command_id", "_is_withdrawn")

    def __init__(self, command_id: CommandId) -> None:
        self._command_id = command_id
        self._asking: asyncio.Task[Any] | None = None
        self._is_withdrawn = False

    def withdraw(self, command_id: CommandId) -> None:
        """If it is this one, nobody waits for it any more: a call that runs is cancelled, and none begins."""
        if command_id != self._command_id or self._is_withdrawn:
            return
        self._is_withdrawn = True
        if self._asking is not None:
            self._asking.cancel()

    async def ask(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """A handler's answer. Raises Withdrawn, and what the call does."""
        if self._is_withdrawn:
            raise Withdrawn(self._command_id)
        self._asking = asyncio.current_task()
        try:
            answer = await call()
        except BaseException:
            # However the call ended: who cancelled it has not cancelled the command's task.
            if self._is_withdrawn and not _is_still_cancelled(self._asking):
                raise Withdrawn(self._command_id) from None
            raise
        finally:
            self._asking = None
        if self._is_withdrawn:
            # A call may end well in the moment in which it is cancelled, or not care.
            _is_still_cancelled(asyncio.current_task())
            raise Withdrawn(self._command_id)
        return answer


def _is_still_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Take our own cancelling back; whether others have cancelled the task, too."""
    # Until Python 3.11 a task does not count.
    uncancel = getattr(task, "uncancel", None)
    return uncancel is not None and uncancel() > 0
