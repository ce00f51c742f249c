"""What a read side stands on."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.ports import DeadLetters, EventSource, OffsetStore, Places, ReadSideControls


@dataclass(frozen=True, slots=True)
class Stores:
    """The journal to read, and all that is remembered of read sides."""

    source: EventSource
    places: Places
    offsets: OffsetStore
    controls: ReadSideControls
    letters: DeadLetters
