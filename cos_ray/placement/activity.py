"""How many commands each entity has had lately, counted cheaply in two halves of a sliding window."""

from __future__ import annotations

from collections.abc import Mapping

from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import BUSY, LATELY

MOST = 100_000
"""Entities that are told apart in half a window; of more than that, it is begun anew."""


class Activity:
    """Counts commands by entity; who had many is known without a look at all the others."""

    def __init__(self, now: float) -> None:
        self._begun = now
        self._older: dict[EntityId, int] = {}
        self._newer: dict[EntityId, int] = {}
        self._busy: set[EntityId] = set()

    def note(self, entity_id: EntityId) -> None:
        """One more command."""
        newer = self._newer
        if len(newer) >= MOST:
            newer.clear()
        number = newer[entity_id] = newer.get(entity_id, 0) + 1
        if number + self._older.get(entity_id, 0) >= BUSY:
            self._busy.add(entity_id)

    def forget(self, entity_id: EntityId) -> None:
        """It is not to be counted among the busy ones until it has had as many anew."""
        self._busy.discard(entity_id)
        self._older.pop(entity_id, None)
        self._newer.pop(entity_id, None)

    def busy(self, now: float) -> Mapping[EntityId, int]:
        """Who had enough commands lately to be worth a look, and how many."""
        if now - self._begun >= LATELY / 2:
            is_stale = now - self._begun >= LATELY
            self._begun, self._older, self._newer = now, {} if is_stale else self._newer, {}
            self._busy = {each for each in self._busy if self._number(each) >= BUSY}
        return {each: self._number(each) for each in self._busy}

    @property
    def is_idle(self) -> bool:
        """Whether there were no commands lately."""
        return not self._newer and not self._older

    def _number(self, entity_id: EntityId) -> int:
        return self._older.get(entity_id, 0) + self._newer.get(entity_id, 0)
