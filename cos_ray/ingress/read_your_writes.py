"""A client that wants its command's event handled by a read side before it gets its reply."""

from __future__ import annotations

from collections.abc import Iterable

from cos_ray.domain.errors import Code, CosError, Status, UnknownReadSide
from cos_ray.domain.ids import ReadSideId
from cos_ray.domain.messages import EntityState
from cos_ray.readside.management import ReadSideManagement

WAIT_FOR = "x-cos-wait-for"
PENDING = "x-cos-read-side-pending"
"""The trailing metadata of a reply that could not wait any longer; it names the read side."""


def awaited_read_side(
    metadata: Iterable[tuple[str, str | bytes]], management: ReadSideManagement
) -> ReadSideId | Status | None:
    """The read side to wait for, if any; a status if there is no such."""
    named = [value for key, value in metadata if key.lower() == WAIT_FOR]
    if not named:
        return None
    if len(named) > 1:
        return Status(Code.INVALID_ARGUMENT, f"{WAIT_FOR} is given more than once")
    name = named[0] if isinstance(named[0], str) else named[0].decode("utf-8", "replace")
    try:
        return management.known(name)
    except UnknownReadSide as error:
        return Status(Code.INVALID_ARGUMENT, f"{WAIT_FOR}: {error}")


async def is_pending(
    management: ReadSideManagement, read_side: ReadSideId, state: EntityState, seconds: float
) -> bool:
    """Whether the read side has, so many seconds later, not handled the entity's newest event."""
    if not state.exists:
        return False
    try:
        return not await management.handled(
            read_side, state.meta.entity_id, state.sequence_number, max(seconds, 0.001)
        )
    except CosError:
        return True
