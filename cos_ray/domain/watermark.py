"""
Up to where the journal is complete, over all shards.

Within a shard offsets become visible in their order. Between shards they do not: offset 7 of one
shard may be committed after offset 9 of another. Whoever reads all shards as one sequence must
not go past 7 before its fate is known. Who is writing in a shard holds its lock for as long as an
offset of his may be missing; so the locks tell how far one may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import RowIdentity


@dataclass(frozen=True, slots=True)
class JournalHead:
    """The end of the journal at one moment."""

    newest: Offset
    """The largest offset that was visible; 0 in an empty journal."""
    writing: Mapping[Shard, str]
    """Shards that were locked after `newest` was read, each with a name for the transaction that did it."""
    newest_row: RowIdentity | None = field(default=None, compare=False)
    """The event at `newest`."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of the journal whose event nobody can read."""

    offset: Offset
    entity_id: EntityId
    row: RowIdentity | None = field(default=None, compare=False)


_BEGINNING = Offset(0)


@dataclass(frozen=True, slots=True)
class Watermark:
    """What looks at the end of the journal, one after the other, have led to."""

    complete: Offset = _BEGINNING
    """No offset up to this one is still to come; what exists can be read from now on."""
    newest: Offset = _BEGINNING
    """The largest offset seen."""
    _held: Mapping[Shard, tuple[str, Offset]] = field(default_factory=dict)
    """Of each locked shard: by which transaction, and up to where it was complete before that."""

    def after(self, head: JournalHead) -> Watermark:
        """The watermark after another look."""
        held = {}
        for shard, writer in head.writing.items():
            before = self._held.get(shard)
            # With the lock in other hands, or free at the last look, all that had an offset when
            # that look was taken has been committed, or never will be.
            same = before is not None and before[0] == writer
            held[shard] = before if before is not None and same else (writer, self.newest)
        complete = min([head.newest, *(bound for _, bound in held.values())])
        return Watermark(max(complete, self.complete), max(head.newest, self.newest), held)
