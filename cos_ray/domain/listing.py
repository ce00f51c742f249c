"""Which entities there are, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cos_ray.domain.ids import EntityId, Offset


@dataclass(frozen=True, slots=True)
class ListedEntity:
    """An entity in a list."""

    entity_id: EntityId
    updated_at: datetime
    """When its newest event was stored."""
    offset: Offset
    """Where that lies in the journal."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of them, and the place from where to go on; None when this was all."""

    entities: tuple[ListedEntity, ...]
    next_place: str | None
