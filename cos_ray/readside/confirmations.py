"""Who waits for events of one shard to be confirmed, and which entities had events left out."""

from __future__ import annotations

import asyncio

from cos_ray.domain.ids import EntityId, Offset


class Confirmations:
    """What is known without asking the database."""

    def __init__(self, most: int) -> None:
        """`most`: how many entities that left something out are remembered."""
        self._most = most
        self._left_out: set[EntityId] = set()
        """Those of which an event was skipped or set aside; once they are too many, nobody knows which."""
        self._waiters: dict[asyncio.Future[bool], Offset] = {}

    def begin_anew(self) -> None:
        """The shard is opened elsewhere. Those who wait go on waiting."""
        self._left_out.clear()

    def leave_out(self, entity_id: EntityId) -> None:
        """An event of the entity is behind us, and was not confirmed."""
        if len(self._left_out) <= self._most:
            self._left_out.add(entity_id)

    def may_lack(self, entity_id: EntityId) -> bool:
        """Whether something of the entity may have been left out."""
        return entity_id in self._left_out or len(self._left_out) > self._most

    def wait_for(self, offset: Offset) -> asyncio.Future[bool]:
        """Whether the event there is confirmed, as soon as that is known."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters[future] = offset
        future.add_done_callback(lambda done: self._waiters.pop(done, None))
        return future

    def tell(self, offset: Offset, is_handled: bool) -> None:
        """The event there is behind us."""
        for future, wanted in list(self._waiters.items()):
            if wanted == offset and not future.done():
                future.set_result(is_handled)
