"""Removes what an erased entity's events said, and keeps the record of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.erasure import ERASED, KNOWN_WITHIN, Erasure, redacted
from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import EventEnvelope, Meta
from cos_ray.domain.pages import Page
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import envelope_from_bytes, envelope_to_bytes

_PAGE = 500
"""How many events are redacted in one statement."""


class PostgresErasure:
    """
    `Eraser` on connections of whoever opens and closes them.

    Every step may be repeated; one that was interrupted is taken up by asking again.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def erased_of(self, entity_ids: Collection[EntityId]) -> Collection[EntityId]:
        """See `EventSource.erased_of`."""
        rows = await self._connections.run(statement("erased_of"), {"entity_ids": list(entity_ids)})
        return {EntityId(entity_id) for (entity_id,) in rows}

    async def remove(self, entity_id: EntityId, reason: str, caller: str | None) -> Erasure:
        """See `Eraser.remove`."""
        parameters = {"entity_id": entity_id, "reason": reason, "caller": caller}
        [(age,)] = await self._connections.run(statement("record_erasure"), parameters)
        left = KNOWN_WITHIN.total_seconds() - max(0.0, age)
        known_by_all = asyncio.get_running_loop().time() + left
        await self._redact_all(entity_id)
        # Only then is nothing handed out any more that a process still has in memory.
        await asyncio.sleep(known_by_all - asyncio.get_running_loop().time())
        rows = await self._connections.run(statement("finish_erasure"), {"entity_id": entity_id})
        if not rows:
            raise JournalUnavailable("the record of an erasure has disappeared")
        return Erasure(rows[0][0], rows[0][1])

    async def _redact_all(self, entity_id: EntityId) -> None:
        first = Revision(1)
        while True:
            page = {"entity_id": entity_id, "first": first, "limit": _PAGE}
            rows: Page[Any] = await read_page(self._connections, statement("history"), page)
            if not rows:
                return
            await self._redact(entity_id, dict(rows))
            first = Revision(rows[-1][0] + 1)

    async def _redact(self, entity_id: EntityId, payloads: dict[int, bytes]) -> None:
        bare = {number: _redacted(entity_id, number, payload) for number, payload in payloads.items()}
        changed = {number: payload for number, payload in bare.items() if payload != payloads[number]}
        if changed:
            parameters = {
                "entity_id": entity_id,
                "sequence_numbers": list(changed),
                "payloads": list(changed.values()),
            }
            [(redacted,)] = await self._connections.run(statement("redact"), parameters)
            if redacted != len(changed):
                raise JournalUnavailable("an entity to be erased has not come to its last event")


def _redacted(entity_id: EntityId, number: int, payload: bytes) -> bytes:
    """That there was an event, which one, and when; nothing of what it was."""
    sequence_number = Revision(number)
    try:
        envelope = envelope_from_bytes(sequence_number, payload)
    except DecodeError:
        envelope = EventEnvelope(ERASED, ERASED, Meta(entity_id, sequence_number), sequence_number)
    # By the key and not by what the payload says: of whom it is must not be lost.
    meta = Meta(entity_id, envelope.meta.revision, envelope.meta.date)
    return envelope_to_bytes(replace(redacted(envelope), meta=meta))
