"""Rows of the journal as they were read, on their way into statements and out of them."""

from __future__ import annotations

from collections.abc import Sequence

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import RowIdentity


def identity(
    ordering: int | None, entity_id: str, sequence_number: int, written_at: int | None
) -> RowIdentity | None:
    """The row with these columns; None if it is none."""
    if ordering is None:
        return None
    return RowIdentity(Offset(ordering), EntityId(entity_id), Revision(sequence_number), written_at)


def known_row(known: RowIdentity | None) -> dict[str, object]:
    """Parameters for one row, or for none."""
    return {
        "known_offset": known and known.offset,
        "known_entity": known and known.entity_id,
        "known_number": known and known.sequence_number,
        "known_written": known and known.written_at,
    }


def known_rows(rows: Sequence[RowIdentity | None]) -> dict[str, object]:
    """Parameters for several, in their order; null where there is none."""
    return {
        "known_offsets": [row and row.offset for row in rows],
        "known_entities": [row and row.entity_id for row in rows],
        "known_numbers": [row and row.sequence_number for row in rows],
        "known_written": [row and row.written_at for row in rows],
    }
