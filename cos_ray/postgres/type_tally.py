"""Counts the changes of state types in a journal that is looked through, the newest events first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.type_changes import TypeChange, change_of
from cos_ray.postgres.report import StateTypeChange
from cos_ray.postgres.row_faults import JournalRow
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper

MOST_ENTITIES = 500_000
"""Of so many entities at the most it is known how they went on; those seen longest ago are forgotten."""

NOT_WATCHED = "not watched"


class TypeTally:
    """Compares each event's state with that of the entity's next event."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[int, str]] = {}
        self._found: dict[TypeChange, StateTypeChange] = {}

    def count(self, row: JournalRow) -> None:
        """Note one row; those of an entity come in falling order."""
        name = _state_type(row.payload)
        number, next_name = self._next.pop(row.entity_id, (0, None))
        if next_name is not None and name is not None and number == row.sequence_number + 1:
            self._note(change_of(name, next_name), f"{row.entity_id} at {number}")
        if name is not None:
            self._next[row.entity_id] = (row.sequence_number, name)
            if len(self._next) > MOST_ENTITIES:
                del self._next[next(iter(self._next))]

    def result(self, noted: Iterable[tuple[Any, ...]]) -> list[StateTypeChange]:
        """What was counted, beside what is on record (rows of `inspect_type_changes.sql`)."""
        for old, new, grounds, entity_id, number in noted:
            example = "" if entity_id is None else f"{entity_id} at {number}"
            change = TypeChange(old, new)
            found = self._found.setdefault(change, StateTypeChange(old, new, grounds, 0, example))
            found.grounds = grounds
        return sorted(self._found.values(), key=lambda one: (-one.rows, one.old, one.new))

    def _note(self, change: TypeChange | None, example: str) -> None:
        if change is None or change.is_our_own or not change.can_be_remembered:
            return
        found = self._found.get(change)
        if found is None:
            found = StateTypeChange(change.old, change.new, NOT_WATCHED, 0, example)
            self._found[change] = found
        found.rows += 1


def _state_type(payload: bytes) -> str | None:
    try:
        return EventWrapper.FromString(payload).resulting_state.type_url.rpartition("/")[2]
    except DecodeError:
        return None
