"""Hands each event to the subscriptions that want it."""

from __future__ import annotations

from collections.abc import Iterator

from cos_ray.domain.erasure import says_nothing
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.watermark import UnreadableRow
from cos_ray.subscriptions.listener import Listener


def unreadable(event: UnreadableRow) -> Status:
    """Why a stream that would have to show this event ends before it."""
    return Status(Code.DATA_LOSS, f"the event at offset {event.offset} cannot be read")


class Feed:
    """Listeners, each to one entity or to all of them."""

    def __init__(self) -> None:
        self._of_entity: dict[EntityId, set[Listener]] = {}
        self._of_all: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._of_all) + sum(map(len, self._of_entity.values()))

    def add(self, entity_id: EntityId | None, listener: Listener) -> None:
        """Let it hear of the entity's events, or of all."""
        if entity_id is None:
            self._of_all.add(listener)
        else:
            self._of_entity.setdefault(entity_id, set()).add(listener)

    def remove(self, entity_id: EntityId | None, listener: Listener) -> None:
        """Let it hear no more; nothing happens if it does not."""
        self._of_all.discard(listener)
        if entity_id in self._of_entity:
            self._of_entity[entity_id].discard(listener)
            if not self._of_entity[entity_id]:
                del self._of_entity[entity_id]

    def publish(self, event: JournaledEvent | UnreadableRow) -> None:
        """Tell those whom it concerns. An unreadable one is never stepped over: it ends their streams."""
        if isinstance(event, UnreadableRow):
            for listener in self._concerned(event.entity_id):
                listener.end(unreadable(event))
            return
        entity_id, is_erased = event.envelope.meta.entity_id, says_nothing(event.envelope)
        for listener in self._concerned(entity_id):
            if is_erased:
                listener.redact(entity_id)
            listener.offer(event)

    def _concerned(self, entity_id: EntityId) -> Iterator[Listener]:
        yield from self._of_entity.get(entity_id, ())
        yield from self._of_all
