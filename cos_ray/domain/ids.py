"""The names and numbers that identify things."""

from __future__ import annotations

from typing import NewType

from cos_ray.domain.texts import is_encodable

EntityId = NewType("EntityId", str)
"""One event-sourced instance, named by the application; also its persistence id in the journal."""

Revision = NewType("Revision", int)
"""How many events one entity has had; the first event makes revision 1."""

Offset = NewType("Offset", int)
"""An event's place in the journal: positive, rising, with holes."""

Shard = NewType("Shard", int)
"""A fixed slice of the entity ids, numbered from 0."""

CommandId = NewType("CommandId", str)
"""One command as the ingress took it; unique, and kept beside the events it led to."""

IdempotencyKey = NewType("IdempotencyKey", str)
"""What a client calls a command by, so that sending it twice does not do it twice."""

ReadSideId = NewType("ReadSideId", str)
"""A configured consumer of events."""

Owner = NewType("Owner", str)
"""One run of a read side in one process; two never share a name (see `cos_ray.system.process_identity`)."""

ReleaseId = NewType("ReleaseId", str)
"""One start of the service: what it runs belongs together, and is followed by what the next one runs."""

ENTITY_ID_LIMIT = 255
"""The longest entity id, in characters: what the journal's key column holds."""

KEY_LIMIT = 128
"""The longest idempotency key, in characters."""


def fault_of_entity_id(entity_id: str) -> str | None:
    """Say what makes this entity id unusable; None when nothing does (first text: as in CoS)."""
    if not entity_id:
        return "empty entity ID"
    if len(entity_id) > ENTITY_ID_LIMIT:
        return f"entity ID is longer than {ENTITY_ID_LIMIT} characters"
    if "\0" in entity_id:
        return "entity ID contains a NUL character"
    if not is_encodable(entity_id):
        return "entity ID contains half of a surrogate pair, which is no character"
    return None


def fault_of_idempotency_key(key: str) -> str | None:
    """Say what makes this idempotency key unusable; None when nothing does."""
    if not 1 <= len(key) <= KEY_LIMIT:
        return f"idempotency key has {len(key)} characters; allowed: 1 to {KEY_LIMIT}"
    if "\0" in key:
        return "idempotency key contains a NUL character"
    if not is_encodable(key):
        return "idempotency key contains half of a surrogate pair, which is no character"
    return None
