"""What tests of journals share: events to append, ways to read all back, waiting with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from itertools import count
from typing import TypeAlias

from cos_ray.domain.ids import CommandId, EntityId, Offset, Revision, Shard
from cos_ray.domain.messages import Append, EventEnvelope, Header, JournaledEvent, Meta, Packed
from cos_ray.domain.sharding import shard_of
from cos_ray.ports import EventSource

SHARDS = 4
DATE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)

Condition: TypeAlias = Callable[[], Awaitable[bool]]

_commands = count(1)


def packed(text: str) -> Packed:
    """An Any by hand, with this text for its value."""
    value = text.encode()
    url = b"type.googleapis.com/test.Text"
    size = len(value)
    varint = bytearray()
    while size > 127:
        varint.append(size & 127 | 128)
        size >>= 7
    return Packed(b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([*varint, size]) + value)


def append_of(
    entity: str, expected: int, events: int = 1, *, command: str | None = None, padding: int = 0
) -> Append:
    """An append of events that no other append has."""
    command_id = CommandId(command or f"command-{next(_commands)}")
    entity_id = EntityId(entity)
    envelopes = tuple(
        EventEnvelope(
            event=packed(f"{command_id}/{number}" + "." * padding),
            resulting_state=packed(f"state {number}"),
            meta=Meta(entity_id, Revision(number), DATE, (Header("a", "b"), Header("c-bin", b"\x00\xff"))),
            sequence_number=Revision(number),
        )
        for number in range(expected + 1, expected + 1 + events)
    )
    return Append(entity_id, shard_of(entity_id, SHARDS), command_id, Revision(expected), envelopes)


async def read_all(source: EventSource, page: int = 100) -> list[JournaledEvent]:
    """Every event of every shard, as read sides see them."""
    found: list[JournaledEvent] = []
    for number in range(SHARDS):
        offset = Offset(0)
        while events := await source.after(Shard(number), offset, page):
            found += events
            offset = events[-1].offset
    return found


async def until(condition: Condition, within: float = 20.0) -> None:
    """Wait for a condition, not for a while."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)
