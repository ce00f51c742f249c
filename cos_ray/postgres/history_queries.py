"""The past of entities, and which there are: questions that no command waits for."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Revision, fault_of_entity_id
from cos_ray.domain.listing import ListedEntity, Listing
from cos_ray.domain.messages import EventEnvelope
from cos_ray.domain.pages import Page
from cos_ray.domain.watermark import Watermark
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.dates import first_since
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement
from cos_ray.postgres.tail import PostgresTail
from cos_ray.protocol.codec import envelope_from_bytes

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""How far the clock that dates events may be ahead of the database's."""

_LAST_DAY = datetime(9999, 12, 31, tzinfo=timezone.utc)
_PAGE = 100
_LARGEST = 2**63 - 1

SETTLED_WITHIN = 3.0
"""Seconds that a question waits for events that are being committed."""

_LOOK_AGAIN = 0.005

_MOST_LOOKED_AT = 5_000
"""How many events a page of recently changed entities looks through."""


class HistoryQueries:
    """`EntityPast` on connections of whoever opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._tail = PostgresTail(connections)

    async def at_time(self, entity_id: EntityId, moment: datetime) -> EventEnvelope | None:
        """See `EntityPast.at_time`."""
        if fault_of_entity_id(entity_id):
            return None
        before = _LARGEST
        while True:
            parameters = {
                "entity_id": entity_id,
                "before": before,
                "moment": _milliseconds(min(moment, _LAST_DAY) + CLOCKS_DIFFER_BY),
                "limit": _PAGE,
            }
            rows: Page[Any] = await read_page(self._connections, statement("before"), parameters)
            for sequence_number, payload in rows:
                envelope = _envelope(entity_id, sequence_number, payload)
                if envelope.meta.date is not None and envelope.meta.date <= moment:
                    return envelope
            if not rows.has_more:
                return None
            before = rows[-1][0]

    async def entities(self, prefix: str, after: str, limit: int) -> Listing:
        """See `EntityPast.entities`."""
        parameters = {"prefix": prefix, "beyond": _beyond(prefix), "after": after, "limit": limit}
        rows = await self._connections.run(statement("entities_by_id"), parameters)
        found = tuple(
            ListedEntity(EntityId(entity_id), _date(stored), Offset(offset))
            for entity_id, stored, offset in rows
            if offset is not None
        )
        return Listing(found, rows[-1][0] if len(rows) == limit else None)

    async def offset_at(self, moment: datetime) -> Offset | None:
        """See `EntityPast.offset_at`."""
        await self._settled()
        return await first_since(self._connections, _milliseconds(moment))

    async def changed(self, prefix: str, since: datetime, after: Offset, limit: int) -> Listing:
        """See `EntityPast.changed`."""
        up_to = await self._settled()
        # Rounded up: what is dated in the millisecond before is not dated since then.
        milliseconds = -_milliseconds(_EPOCH - (since - _EPOCH))
        parameters = {"after": after, "up_to": up_to, "since": milliseconds, "limit": _MOST_LOOKED_AT}
        rows = await self._connections.run(statement("entities_by_update"), parameters)
        found: list[ListedEntity] = []
        for ordering, entity_id, stored, is_newest, is_since in rows:
            if len(found) == limit:
                return Listing(tuple(found), str(found[-1].offset))
            if is_newest and is_since and entity_id.startswith(prefix):
                found.append(ListedEntity(EntityId(entity_id), _date(stored), Offset(ordering)))
        return Listing(tuple(found), str(rows[-1][0]) if len(rows) == _MOST_LOOKED_AT else None)

    async def _settled(self) -> Offset:
        """
        The end of the journal, when nothing before it is still on its way. Raises JournalUnavailable.

        Between shards offsets are not committed in their order: whoever goes on after the end of a page
        would never see what was given an offset before it, and was committed after it was read.
        """
        mark = Watermark().after(head := await self._tail.head())
        deadline = time.monotonic() + SETTLED_WITHIN
        while mark.complete < head.newest:
            if time.monotonic() > deadline:
                raise JournalUnavailable("an event takes too long to be committed")
            await asyncio.sleep(_LOOK_AGAIN)
            mark = mark.after(await self._tail.head())
        return head.newest


def _envelope(entity_id: str, number: int, payload: bytes) -> EventEnvelope:
    try:
        return envelope_from_bytes(Revision(number), payload)
    except DecodeError as error:
        raise JournalUnavailable(f"event {number} of {entity_id} is no EventWrapper") from error


def _beyond(prefix: str) -> str | None:
    """The first text, in the order of code points, after all that begin so; None if there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[place]) + 1
        if following == 0xD800:
            following = 0xE000  # what lies between is no character
        if following <= 0x10FFFF:
            return prefix[:place] + chr(following)
    return None


def _milliseconds(date: datetime) -> int:
    """Since 1970."""
    return (date - _EPOCH) // timedelta(milliseconds=1)


def _date(milliseconds: int | None) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds or 0)
