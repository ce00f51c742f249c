"""Stops a command that would let an entity's state come to another type, unless that is meant."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache

from cos_ray.domain.errors import HandlerFailed, Status
from cos_ray.domain.type_changes import PassedChange, Precedent, TypeChange, TypePolicy
from cos_ray.ports import EntityMeter

logger = logging.getLogger(__name__)


async def passed(
    change: TypeChange,
    policy: TypePolicy,
    ask: Callable[[TypeChange], Awaitable[Precedent]],
    meter: EntityMeter,
) -> PassedChange:
    """
    The change, with the grounds on which it is let pass. Raises HandlerFailed if there are none.

    `ask`: the journal, for what it holds; it is asked about undeclared changes only.
    """
    verdict = policy.grounds_for(change) or policy.judge(change, await ask(change))
    if isinstance(verdict, Status):
        meter.refused_type()
        _tell_once(change)
        raise HandlerFailed(verdict)
    return PassedChange(change, verdict)


@lru_cache(maxsize=1_000)
def _tell_once(change: TypeChange) -> None:
    """Once in each process: while a handler runs that has renamed its state, every command ends so."""
    logger.warning(
        "commands are refused: the state's type changed, and that is not declared",
        extra={"old_type": change.old, "new_type": change.new},
    )
