"""What comes with each event beside the message, as gRPC metadata or HTTP headers (as in CoS)."""

from __future__ import annotations

from urllib.parse import quote

from cos_ray.domain.ids import EntityId, Shard

_PRINTABLE = frozenset(map(chr, range(0x20, 0x7F)))


def read_metadata(
    shard: Shard, entity_id: EntityId, *, is_trimmed: bool = False
) -> tuple[tuple[str, str], ...]:
    """
    Which entity's event it is, and which shard's.

    An id is percent-encoded as UTF-8 where it could not be sent, or, being trimmed, would not arrive.
    """
    is_plain = _PRINTABLE.issuperset(entity_id) and not (is_trimmed and entity_id != entity_id.strip())
    sent = entity_id if is_plain else quote(entity_id, safe="")
    return ("x-cos-entity-id", sent), ("x-cos-event-tag", str(shard))
