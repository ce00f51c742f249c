"""The journal as one sequence of events, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.ids import EntityId, Offset, Revision, Shard, fault_of_entity_id
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.watermark import JournalHead, UnreadableRow
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import envelope_from_bytes


class PostgresTail:
    """`JournalTail` on connections of whoever opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def head(self) -> JournalHead:
        """See `JournalTail.head`."""
        [(newest, locks)] = await self._connections.run(statement("head"), ())
        writing = {}
        for lock in locks:
            shard, _, transaction = lock.partition(" ")
            writing[Shard(int(shard))] = transaction
        return JournalHead(Offset(newest), writing)

    async def between(
        self, after: Offset, up_to: Offset, limit: int
    ) -> Sequence[JournaledEvent | UnreadableRow]:
        """See `JournalTail.between`."""
        parameters = {"after": after, "up_to": up_to, "limit": limit}
        return [_event(*row) for row in await self._connections.run(statement("between"), parameters)]

    async def of_entity(
        self, entity_id: EntityId, first: Revision, up_to: Offset, limit: int
    ) -> Sequence[JournaledEvent | UnreadableRow]:
        """See `JournalTail.of_entity`."""
        if fault_of_entity_id(entity_id):
            return []
        parameters = {"entity_id": entity_id, "first": first, "up_to": up_to, "limit": limit}
        return [_event(*row) for row in await self._connections.run(statement("of_entity"), parameters)]


def _event(
    ordering: int, entity_id: str, sequence_number: int, payload: Any
) -> JournaledEvent | UnreadableRow:
    try:
        envelope = envelope_from_bytes(Revision(sequence_number), payload)
    except DecodeError:
        return UnreadableRow(Offset(ordering), EntityId(entity_id))
    return JournaledEvent(Offset(ordering), envelope)
