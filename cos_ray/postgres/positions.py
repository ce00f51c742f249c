"""Where events lie in the journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import UnreadableEvent
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard, fault_of_entity_id
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import Lag, Span, Start
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.dates import first_since
from cos_ray.postgres.identities import identity
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import envelope_from_bytes

MOST_COUNTED = 10_000
"""How many events of one shard are counted; that there are more is then all that is said."""

MOST_PASSED_OVER = 2_000
"""How many older events of a shard are passed over, for they need not be delivered again."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


class PostgresPositions:
    """`Places` on the journal's tables."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def lags(self, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Lag]:
        """See `Places.lags`."""
        shards = sorted(offsets)
        parameters = {
            "tags": [str(shard) for shard in shards],
            "offsets": [offsets[shard] for shard in shards],
            "most": MOST_COUNTED + 1,
        }
        rows = await self._connections.run(statement("lags"), parameters)
        return {
            Shard(int(tag)): Lag(min(events, MOST_COUNTED), events > MOST_COUNTED, _date(written))
            for tag, events, written in rows
        }

    async def before(self, shards: Collection[Shard], date: datetime) -> Mapping[Shard, Offset]:
        """See `Places.before`."""
        since = (date - _EPOCH) // _MILLISECOND
        parameters = {
            "tags": [str(shard) for shard in sorted(shards)],
            "since": since,
            "first": await first_since(self._connections, since),
            "most": MOST_PASSED_OVER,
        }
        rows = await self._connections.run(statement("places_since"), parameters)
        return {Shard(int(tag)): Offset(place) for tag, place in rows}

    async def events_of(self, entity_id: EntityId, first: Revision, limit: int) -> Page[JournaledEvent]:
        """See `Places.events_of`. Events that Chief of State marked as deleted are left out."""
        if fault_of_entity_id(entity_id):
            return Page()
        parameters = {"entity_id": entity_id, "first": first, "limit": limit}
        rows: Page[Any] = await read_page(self._connections, statement("events_of"), parameters)
        found: Page[JournaledEvent] = Page(has_more=rows.has_more)
        for row in rows:
            try:
                found.append(_event(entity_id, *row))
            except UnreadableEvent:
                if not found:
                    raise
                found.has_more = True
                break
        return found

    async def span_of(self, entity_id: EntityId, up_to: Offset) -> Span | None:
        """See `Places.span_of`."""
        if fault_of_entity_id(entity_id):
            return None
        parameters = {"entity_id": entity_id, "up_to": up_to}
        [(events, first, last)] = await self._connections.run(statement("span_of"), parameters)
        return Span(events, Revision(first), Revision(last)) if events else None

    async def starts(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Start]:
        """See `Places.starts`."""
        shards = sorted(offsets)
        parameters = {
            "read_side": read_side,
            "shards": shards,
            "offsets": [offsets[shard] for shard in shards],
        }
        rows = await self._connections.run(statement("starts"), parameters)
        return {
            Shard(shard): Start(Offset(end), identity(*row), Offset(deleted), Offset(accepted))
            for shard, *row, deleted, accepted, end in rows
        }

    async def place_of(self, entity_id: EntityId, sequence_number: Revision) -> Offset | None:
        """See `Places.place_of`."""
        if fault_of_entity_id(entity_id):
            return None
        parameters = {"entity_id": entity_id, "sequence_number": sequence_number}
        rows = await self._connections.run(statement("place_of"), parameters)
        return Offset(rows[0][0]) if rows else None


def _event(entity_id: EntityId, ordering: int, number: int, payload: bytes) -> JournaledEvent:
    try:
        return JournaledEvent(Offset(ordering), envelope_from_bytes(Revision(number), payload))
    except DecodeError as error:
        text = f"event {number} of {entity_id} is no EventWrapper"
        raise UnreadableEvent(text, Offset(ordering)) from error


def _date(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + milliseconds * _MILLISECOND
