"""The journal as one sequence of events, and where it ends."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import EventsDeleted, HistoryWentBack
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard, fault_of_entity_id
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.pages import Page
from cos_ray.domain.watermark import JournalHead, UnreadableRow
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.identities import identity, known_row, known_rows
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import envelope_from_bytes


class PostgresTail:
    """`JournalTail` on connections of whoever opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def head(self, known: RowIdentity | None = None) -> JournalHead:
        """See `JournalTail.head`."""
        [(*newest, is_there, locks)] = await self._connections.run(statement("head"), known_row(known))
        if not is_there:
            raise HistoryWentBack
        row = identity(*newest)
        writing = {}
        for lock in locks:
            shard, _, transaction = lock.partition(" ")
            writing[Shard(int(shard))] = transaction
        return JournalHead(row.offset if row else Offset(0), writing, row)

    async def between(
        self,
        after: Offset,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
        *,
        whole: bool = False,
    ) -> Page[JournaledEvent | UnreadableRow]:
        """See `JournalTail.between`."""
        parameters = {"after": after, "up_to": up_to, "limit": limit, **known_row(known)}
        rows: Page[Any] = await read_page(self._connections, statement("between"), parameters)
        events = Page((_event(*row) for *row, _ in rows), has_more=rows.has_more)
        if whole and rows and (deleted_to := rows[0][-1]) > after:
            raise EventsDeleted(Offset(deleted_to))
        return events

    async def of_entity(
        self,
        entity_id: EntityId,
        first: Revision,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
    ) -> Page[JournaledEvent | UnreadableRow]:
        """See `JournalTail.of_entity`."""
        if fault_of_entity_id(entity_id):
            return Page()
        parameters = {"entity_id": entity_id, "first": first, "up_to": up_to, "limit": limit}
        rows: Page[Any] = await read_page(
            self._connections, statement("of_entity"), {**parameters, **known_row(known)}
        )
        return Page((_event(*row) for row in rows), has_more=rows.has_more)

    async def still_there(self, rows: Collection[RowIdentity]) -> Collection[Offset]:
        """See `JournalTail.still_there`."""
        found = await self._connections.run(statement("still_there"), known_rows(list(rows)))
        return {Offset(place) for (place,) in found}


def _event(
    ordering: int, entity_id: str, number: int, written_at: int | None, payload: Any, is_known: bool
) -> JournaledEvent | UnreadableRow:
    if not is_known:
        raise HistoryWentBack
    row = identity(ordering, entity_id, number, written_at)
    try:
        envelope = envelope_from_bytes(Revision(number), payload)
    except DecodeError:
        return UnreadableRow(Offset(ordering), EntityId(entity_id), row)
    return JournaledEvent(Offset(ordering), envelope, row)
