"""Events that were set aside, in a table of our own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import ClaimLost, EntityIsErased, JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import DeadLetter
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import envelope_from_bytes, envelope_to_bytes

LONGEST_REASON = 2_000
"""How much of a reason is kept, in characters."""


class PostgresDeadLetters:
    """`DeadLetters` on `cos_dead_letters`. Nobody knows how large a history is: no list is unbounded."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def park(
        self,
        read_side: ReadSideId,
        shard: Shard,
        event: JournaledEvent,
        reason: str,
        failures: int,
        owner: Owner,
    ) -> None:
        """See `DeadLetters.park`."""
        envelope = event.envelope
        parameters = {
            "read_side": read_side,
            "entity_id": envelope.meta.entity_id,
            "sequence_number": envelope.sequence_number,
            "shard": shard,
            "ordering": event.offset,
            "payload": envelope_to_bytes(envelope),
            # Text cannot hold NUL.
            "reason": reason.replace("\0", "")[:LONGEST_REASON],
            "failures": failures,
            "owner": owner,
        }
        ((outcome,),) = await self._connections.run(statement("park_event"), parameters)
        _require(outcome != "C", read_side, shard)
        if outcome == "E":
            raise EntityIsErased(envelope.meta.entity_id)

    async def entities(self, read_side: ReadSideId) -> Mapping[Shard, Collection[EntityId]]:
        """See `DeadLetters.entities`."""
        found: dict[Shard, set[EntityId]] = defaultdict(set)
        for shard, entity_id in await self._connections.run(
            statement("parked_entities"), {"read_side": read_side}
        ):
            found[Shard(shard)].add(EntityId(entity_id))
        return found

    async def counts(self, read_side: ReadSideId) -> Mapping[Shard, int]:
        """See `DeadLetters.counts`."""
        rows = await self._connections.run(statement("count_dead_letters"), {"read_side": read_side})
        return {Shard(shard): count for shard, count in rows}

    async def letters(
        self, read_side: ReadSideId, entity_id: EntityId | None, limit: int
    ) -> Page[DeadLetter]:
        """See `DeadLetters.letters`."""
        query = statement("dead_letters" if entity_id is None else "dead_letters_of")
        parameters = {"read_side": read_side, "entity_id": entity_id, "limit": limit}
        rows: Page[Any] = await read_page(self._connections, query, parameters)
        try:
            letters = [
                DeadLetter(
                    Shard(shard),
                    Offset(ordering),
                    envelope_from_bytes(Revision(number), payload),
                    reason,
                    failures,
                    parked_at,
                )
                for shard, ordering, number, payload, reason, failures, parked_at in rows
            ]
            return Page(letters, has_more=rows.has_more)
        except DecodeError as error:
            raise JournalUnavailable("a dead letter is no EventWrapper") from error

    async def drop(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revision: Revision | None,
        owner: Owner,
        *,
        confirmed: bool,
    ) -> int:
        """See `DeadLetters.drop`."""
        parameters = {
            "read_side": read_side,
            "shard": shard,
            "entity_id": entity_id,
            "sequence_number": revision,
            "owner": owner,
            "confirmed": confirmed,
        }
        ((is_ours, count),) = await self._connections.run(statement("drop_dead_letters"), parameters)
        _require(is_ours, read_side, shard)
        return int(count)

    async def make_way(self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, owner: Owner) -> bool:
        """See `DeadLetters.make_way`."""
        parameters = {"read_side": read_side, "shard": shard, "entity_id": entity_id, "owner": owner}
        ((is_ours, is_any_left),) = await self._connections.run(statement("make_way"), parameters)
        _require(is_ours, read_side, shard)
        return not is_any_left

    async def drop_after(self, read_side: ReadSideId, shard: Shard, offset: Offset, owner: Owner) -> None:
        """See `DeadLetters.drop_after`."""
        parameters = {"read_side": read_side, "shard": shard, "ordering": offset, "owner": owner}
        ((is_ours,),) = await self._connections.run(statement("drop_dead_letters_after"), parameters)
        _require(is_ours, read_side, shard)

    async def skip(self, read_side: ReadSideId, shard: Shard, event: JournaledEvent, owner: Owner) -> None:
        """See `DeadLetters.skip`."""
        parameters = {
            "read_side": read_side,
            "shard": shard,
            "entity_id": event.envelope.meta.entity_id,
            "sequence_number": event.envelope.sequence_number,
            "ordering": event.offset,
            "owner": owner,
        }
        ((is_ours,),) = await self._connections.run(statement("skip_event"), parameters)
        _require(is_ours, read_side, shard)

    async def skipped_of(self, read_side: ReadSideId, entity_id: EntityId) -> Collection[Revision]:
        """See `DeadLetters.skipped_of`."""
        parameters = {"read_side": read_side, "entity_id": entity_id}
        rows = await self._connections.run(statement("skipped_of"), parameters)
        return {Revision(number) for (number,) in rows}

    async def forget_skipped(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revisions: Collection[Revision],
        owner: Owner,
    ) -> None:
        """See `DeadLetters.forget_skipped`."""
        parameters = {
            "read_side": read_side,
            "shard": shard,
            "entity_id": entity_id,
            "sequence_numbers": list(revisions),
            "owner": owner,
        }
        ((is_ours,),) = await self._connections.run(statement("forget_skipped"), parameters)
        _require(is_ours, read_side, shard)

    async def forget_skipped_after(
        self, read_side: ReadSideId, offsets: Mapping[Shard, Offset], owner: Owner
    ) -> None:
        """See `DeadLetters.forget_skipped_after`."""
        parameters = {
            "read_side": read_side,
            "shards": list(offsets),
            "offsets": list(offsets.values()),
            "owner": owner,
        }
        await self._connections.run(statement("forget_skipped_after"), parameters)

    async def is_left_out(self, read_side: ReadSideId, entity_id: EntityId, revision: Revision) -> bool:
        """See `DeadLetters.is_left_out`."""
        parameters = {"read_side": read_side, "entity_id": entity_id, "sequence_number": revision}
        ((is_left_out,),) = await self._connections.run(statement("is_left_out"), parameters)
        return bool(is_left_out)


def _require(is_ours: bool, read_side: ReadSideId, shard: Shard) -> None:
    if not is_ours:
        raise ClaimLost(read_side, shard)
