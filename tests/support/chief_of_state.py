"""Databases as Chief of State leaves them behind, made by plain SQL and none of our code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from google.protobuf.any_pb2 import Any as PbAny
from google.protobuf.wrappers_pb2 import StringValue

from cos_ray.postgres.database import Database
from cos_ray.postgres.statements import statement
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper, StateWrapper
from tests.support.fixtures_postgres import connected

ODD_ID = "polygenelubricants"
"""Its Java hash is -2^31."""


def text(value: str) -> PbAny:
    """An Any of the application's."""
    message = PbAny()
    message.Pack(StringValue(value=value))
    return message


def java_hash(text: str) -> int:
    hash_ = 0
    for character in text:
        hash_ = (31 * hash_ + ord(character)) % 2**32
    return hash_ - 2**32 if hash_ >= 2**31 else hash_


@dataclass
class ChiefOfState:
    """One of its lines: the older with 9 shards, the newer with 16."""

    database: Database
    shards: int
    revisions: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    writer: str = field(default_factory=lambda: str(uuid4()))

    def make_tables(self, *versions: int) -> None:
        """The tables, at version 6 unless told otherwise."""
        with connected(self.database) as connection:
            connection.execute(f"create schema {self.database.search_path.split(',')[0]}".encode())
            connection.execute(statement("chief_of_state"))
            query = "insert into cos_migrations (version_number, is_snapshot) values (%s, false)"
            for version in versions or (6,):
                connection.execute(query, [version])

    def tag(self, entity: str) -> str:
        """As in Java, where the remainder has the sign of the dividend and Math.abs(-2^31) is negative."""
        hash_ = java_hash(entity)
        return str(-(2**31 % self.shards) if hash_ == -(2**31) else abs(hash_) % self.shards)

    def command(
        self,
        entity: str,
        events: int = 1,
        *,
        data: Mapping[str, str] | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> int:
        """A command with so many events, all of which get the same revision; the last one's offset."""
        if connection is None:
            with connected(self.database) as own:
                return self.command(entity, events, data=data, connection=own)
        revision = self.revisions[entity] = self.revisions.get(entity, 0) + 1
        offset = 0
        for number in range(self.numbers.get(entity, 0) + 1, self.numbers.get(entity, 0) + 1 + events):
            wrapper = EventWrapper(event=text(f"event {number}"), resulting_state=text(f"state {number}"))
            wrapper.meta.entity_id, wrapper.meta.revision_number = entity, revision
            # Its clock counts nanoseconds.
            wrapper.meta.revision_date.FromNanoseconds(time.time_ns() // 1_000 * 1_000 + 849)
            for key, value in (data or {}).items():
                wrapper.meta.data[key].CopyFrom(text(value))
            offset = self.row(connection, entity, number, wrapper.SerializeToString())
            self.numbers[entity] = number
        return offset

    def row(self, connection: psycopg.Connection[Any], entity: str, number: int, payload: bytes) -> int:
        [(offset,)] = connection.execute(
            "insert into event_journal (persistence_id, sequence_number, deleted, writer, write_timestamp,"
            " adapter_manifest, event_ser_id, event_ser_manifest, event_payload)"
            " values (%s, %s, false, %s, 1700000000000, '', 5001, 'chief_of_state.v1.EventWrapper', %s)"
            " returning ordering",
            [entity, number, self.writer, payload],
        ).fetchall()
        connection.execute("insert into event_tag values (%s, %s)", [offset, self.tag(entity)])
        return int(offset)

    def snapshot(self, entity: str) -> None:
        """Of the entity's newest state."""
        wrapper = StateWrapper(state=text(f"state {self.numbers[entity]}"))
        wrapper.meta.entity_id, wrapper.meta.revision_number = entity, self.revisions[entity]
        self.run(
            "insert into state_snapshot values"
            " (%s, %s, 1700000000000, 5001, 'chief_of_state.v1.StateWrapper', %s, null, null, null)",
            entity,
            self.numbers[entity],
            wrapper.SerializeToString(),
        )

    def offset(self, read_side: str, shard: int, offset: int) -> None:
        """What Akka's projections write after an event."""
        self.run(
            "insert into read_side_offsets values (%s, %s, %s, 'SEQ', false, 1700000000000)",
            read_side,
            str(shard),
            str(offset),
        )

    def management(self, read_side: str, shard: int, *, paused: bool) -> None:
        """What its read side manager keeps."""
        self.run("insert into read_sides values (%s, %s, %s, 1700000000000)", read_side, str(shard), paused)

    def run(self, query: str, *parameters: object) -> list[Any]:
        with connected(self.database) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


def left_behind(database: Database, shards: int) -> ChiefOfState:
    """A journal with a bit of everything that a Chief of State of that line leaves behind."""
    old = ChiefOfState(database, shards)
    old.make_tables(*([5, 6] if shards == 9 else [6]))
    for number in range(30):
        old.command(f"order-{number}")
    old.command("order-1", events=3)  # the multi-event bug: revisions fall behind
    old.command("order-2", data={"trace": "abc"})
    old.command(ODD_ID)
    old.snapshot("order-1")
    newest = old.command("order-3")
    for shard in range(shards):
        old.offset("ahead", shard, newest)
    old.offset("behind", int(old.tag("order-3")), newest - 1)
    old.management("behind", 0, paused=True)
    return old
