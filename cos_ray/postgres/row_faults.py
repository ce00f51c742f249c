"""What can be odd about a row of a journal that is taken over, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from google.protobuf.message import DecodeError

from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import is_explained
from cos_ray.protocol.codec import meta_from_pb
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper, StateWrapper

SERIALIZER = 5001
EVENT_MANIFEST = "chief_of_state.v1.EventWrapper"
STATE_MANIFEST = "chief_of_state.v1.StateWrapper"


class Oddity(Enum):
    """What a row can be, and what that means for whoever serves it."""

    UNREADABLE = ("payload that is no EventWrapper", "the entity cannot be used, and read sides stall there")
    SERIALIZER = ("serializer id other than 5001", "no matter, if the payload can be read")
    MANIFEST = ("serializer manifest other than EventWrapper's", "no matter, if the payload can be read")
    ADAPTER = ("adapter manifest that is not empty", "no matter, if the payload can be read")
    METADATA = ("serialized metadata of Akka", "left alone")
    OTHER_ENTITY = ("metadata that names another entity", "replies and read sides see that name")
    REVISION = (
        "revision number that differs from the sequence number",
        "revisions go on from the newest row",
    )
    DATA = ("`data` entries in the metadata", "kept and shown; new events have none")
    GAP = ("gap before it in its entity's history", "read sides stall there")
    CUT = ("first of a history whose beginning was deleted", "new read sides begin there")
    DELETED = ("marked as deleted", "read sides do not see it")
    NO_TAG = ("no tag", "read sides do not see it")
    SEVERAL_TAGS = ("several tags", "read sides see it once for each")
    NEGATIVE_TAG = ("negative tag", "read sides do not see it; the entity's new events get shard 0")
    OTHER_TAG = ("tag that the shard count does not explain", "read sides may see it out of order")

    def __init__(self, text: str, effect: str) -> None:
        self.text, self.effect = text, effect


class SnapshotOddity(Enum):
    """What a snapshot can be."""

    UNREADABLE = ("payload that is no StateWrapper", "Chief of State could not start from it")
    SERIALIZER = ("serializer id or manifest other than StateWrapper's", "Chief of State could not read it")
    AHEAD = ("newer than its entity's newest event", "Chief of State would start from a state that is lost")

    def __init__(self, text: str, effect: str) -> None:
        self.text, self.effect = text, effect


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A row of the journal, in the order of `inspect_rows.sql`."""

    ordering: int
    entity_id: EntityId
    sequence_number: int
    deleted: bool
    adapter_manifest: str | None
    serializer: int
    manifest: str
    payload: bytes
    has_metadata: bool
    tags: list[str]
    place: str
    """first, next, gap, or cut: what there is before it."""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot, in the order of `inspect_snapshots.sql`."""

    entity_id: EntityId
    sequence_number: int
    serializer: int
    manifest: str
    payload: bytes
    is_ahead: bool


def oddities_of(row: JournalRow, shards: int | None) -> Iterator[Oddity]:
    """All that is odd about the row, with that number of shards if it is known."""
    yield from _of_columns(row)
    yield from _of_tags(row, shards)
    yield from _of_payload(row)


def oddities_of_snapshot(row: SnapshotRow) -> Iterator[SnapshotOddity]:
    """All that is odd about the snapshot."""
    if (row.serializer, row.manifest) != (SERIALIZER, STATE_MANIFEST):
        yield SnapshotOddity.SERIALIZER
    if row.is_ahead:
        yield SnapshotOddity.AHEAD
    try:
        StateWrapper.FromString(row.payload)
    except DecodeError:
        yield SnapshotOddity.UNREADABLE


def _of_columns(row: JournalRow) -> Iterator[Oddity]:
    facts = {
        Oddity.SERIALIZER: row.serializer != SERIALIZER,
        Oddity.MANIFEST: row.manifest != EVENT_MANIFEST,
        Oddity.ADAPTER: bool(row.adapter_manifest),
        Oddity.METADATA: row.has_metadata,
        Oddity.GAP: row.place == "gap",
        Oddity.CUT: row.place == "cut",
        Oddity.DELETED: row.deleted,
    }
    return (oddity for oddity, holds in facts.items() if holds)


def _of_tags(row: JournalRow, shards: int | None) -> Iterator[Oddity]:
    if not row.tags:
        yield Oddity.NO_TAG
    if len(row.tags) > 1:
        yield Oddity.SEVERAL_TAGS
    for tag in row.tags:
        if tag.startswith("-"):
            yield Oddity.NEGATIVE_TAG
        elif shards is not None and not is_explained((row.entity_id, tag), shards):
            yield Oddity.OTHER_TAG


def _of_payload(row: JournalRow) -> Iterator[Oddity]:
    try:
        meta = EventWrapper.FromString(row.payload).meta
        meta_from_pb(meta)
    except DecodeError:
        yield Oddity.UNREADABLE
        return
    if meta.entity_id != row.entity_id:
        yield Oddity.OTHER_ENTITY
    if meta.revision_number != row.sequence_number:
        yield Oddity.REVISION
    if meta.data:
        yield Oddity.DATA
