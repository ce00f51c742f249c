"""
The last net under a write handler: whatever else is raised while it is called becomes INTERNAL.

Each kind of handler foresees what its library may do, and a library may yet do something else. A command
must not be taken for one whose outcome is unknown, and asked again and again, for that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from cos_ray.domain.decisions import Decision
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import EntityState, Headers, Meta, Packed
from cos_ray.ports import WriteHandler

logger = logging.getLogger(__name__)

UNFORESEEN = Status(Code.INTERNAL, "the write handler's answer cannot be used; the log says why")

_Answer = TypeVar("_Answer")


class ForeseenWriteHandler:
    """A write handler that raises HandlerFailed and nothing else."""

    def __init__(self, handler: WriteHandler) -> None:
        self._handler = handler

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """See `WriteHandler.handle_command`."""
        return await _foreseen(self._handler.handle_command(command, prior, headers, timeout, first))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """See `WriteHandler.handle_event`."""
        return await _foreseen(self._handler.handle_event(event, prior_state, meta, timeout))

    def __getattr__(self, name: str) -> Any:
        # `close`, which some kinds have.
        return getattr(self._handler, name)


async def _foreseen(answer: Awaitable[_Answer]) -> _Answer:
    try:
        return await answer
    except HandlerFailed:
        raise
    except Exception as error:
        logger.exception("calling the write handler ended in an unforeseen error")
        raise HandlerFailed(UNFORESEEN) from error
