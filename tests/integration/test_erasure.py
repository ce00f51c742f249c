"""Erased is erased: in the journal, beside it, and for whoever asks afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as PbAny

from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.erasure import ERASE, ERASED
from cos_ray.domain.errors import Code, JournalUnavailable
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset
from cos_ray.domain.messages import Accepted, Command, Packed, Refused, Reply
from cos_ray.domain.sharding import shard_of
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.erasure_methods import ErasureMethods
from cos_ray.ingress.service import SERVICES
from cos_ray.postgres.database import Database
from cos_ray.postgres.erasure import PostgresErasure
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.protocol.pb.cos_ray.v1.erasure_pb2 import EntityErased, EraseEntityRequest, EraseEntityResponse
from cos_ray.system.clock import SystemClock
from cos_ray.writeside.entity import Entity
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, packed, read_all
from tests.unit.test_ingress import Context, Gateway, ingress

A = EntityId("a")


@dataclass
class Handler:
    """One event for each command."""

    commands: int = 0

    async def handle_command(self, *_: object) -> Decision:
        self.commands += 1
        return Persist((packed("an event"),))

    async def handle_event(self, *_: object) -> Packed:
        return packed("a state")


class Entities:
    """A gateway to entities in this process, each with one copy."""

    def __init__(self, journal: PostgresJournal) -> None:
        self._journal = journal
        self.handler = Handler()
        self._entities: dict[EntityId, Entity] = {}

    async def process(self, command: Command) -> Reply:
        id_ = command.entity_id
        if id_ not in self._entities:
            shard = shard_of(id_, SHARDS)
            self._entities[id_] = Entity(id_, shard, self.handler, self._journal, SystemClock())
        return await self._entities[id_].process(command)

    async def state(self, entity_id: EntityId) -> Any: ...


@dataclass
class Parts:
    gateway: Entities
    eraser: Any
    policy: CommandPolicy = field(default_factory=lambda: CommandPolicy(5.0))


@pytest.fixture
def service(postgres_journal: PostgresJournal) -> ErasureMethods:
    methods = ErasureMethods()
    methods._parts = Parts(Entities(postgres_journal), postgres_journal.eraser)  # type: ignore[assignment]
    return methods


async def erase(
    service: ErasureMethods, entity: str = "a", **more: str
) -> tuple[EraseEntityResponse, Context]:
    context = Context()
    reply = await service.EraseEntity(EraseEntityRequest(entity_id=entity, **more), context)
    return reply, context


def command(name: str, key: str | None = None) -> Command:
    return Command(A, Packed(b"1"), CommandId(name), 5.0, key=IdempotencyKey(key) if key else None)


def everything(database: Database) -> str:
    """All texts and bytes in all tables of the service, as one text."""
    with connected(database) as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = current_schema()"
        ).fetchall()
        return "".join(
            str(connection.execute(f"select to_jsonb(t) from {table} t").fetchall())  # type: ignore[arg-type]
            for (table,) in tables
        )


async def test_nothing_is_left_of_what_events_and_states_said(
    service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    await postgres_journal.append(append_of("a", 0, events=1200))
    await postgres_journal.append(append_of("b", 0))
    secret = b"state 7".hex()
    with connected(database) as connection:
        connection.execute(
            "insert into state_snapshot (persistence_id, sequence_number, created, snapshot_ser_id,"
            " snapshot_ser_manifest, snapshot_payload) values ('a', 7, 1, 5001, 'x', 'state 7')"
        )
        connection.execute(
            "insert into cos_idempotency_keys values ('a', 'key of a', 7, now() + interval '1 h')"
        )
        connection.execute(
            "insert into cos_dead_letters values ('r', 'a', 7, 0, 7, 'state 7', 'why', 1, now())"
        )
    assert secret in everything(database)
    assert "key of a" in everything(database)
    reply, context = await erase(service, reason="asked for")
    assert context.code is None, context.details
    assert reply.events == 1201
    assert secret not in everything(database)
    assert "key of a" not in everything(database)
    # Others stay as they are, and so does how many there were, and when.
    events = await read_all(postgres_journal)
    own = [event.envelope for event in events if event.envelope.meta.entity_id == "a"]
    assert [envelope.sequence_number for envelope in own] == list(range(1, 1202))
    assert {(e.event, e.resulting_state, e.meta.headers) for e in own} == {(ERASED, ERASED, ())}
    assert all(envelope.meta.date for envelope in own)
    assert len(events) == 1202
    with connected(database) as connection:
        rows = connection.execute("select entity_id, reason, caller, events from cos_erased_entities")
        assert rows.fetchall() == [("a", "asked for", None, 1201)]


async def test_asked_again_it_answers_the_same_and_does_nothing(
    service: ErasureMethods, postgres_journal: PostgresJournal
) -> None:
    await postgres_journal.append(append_of("a", 0, events=2))
    first, _ = await erase(service, reason="first")
    again, context = await erase(service, reason="second")
    assert context.code is None
    assert again == first
    assert len(await read_all(postgres_journal)) == 3


async def test_afterwards_the_entity_takes_no_command_whatever_it_remembers(
    service: ErasureMethods, postgres_journal: PostgresJournal
) -> None:
    entities = service._parts.gateway
    assert isinstance(entities, Entities)
    assert isinstance(await entities.process(command("c1", "key")), Accepted)
    await erase(service)
    for again in (command("c2"), command("c3", "key"), command("c1", "key")):
        reply = await entities.process(again)
        assert isinstance(reply, Refused)
        assert reply.status.code is Code.FAILED_PRECONDITION
    assert entities.handler.commands == 1
    newcomer = Entities(postgres_journal)
    reply = await newcomer.process(command("c4"))
    assert isinstance(reply, Refused)
    assert (reply.status.code, reply.status.message) == (Code.FAILED_PRECONDITION, "the entity is erased")


async def test_interrupted_it_is_taken_up_by_asking_again(
    service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    await postgres_journal.append(append_of("a", 0, events=600))

    class Interrupted(PostgresErasure):
        async def _redact(self, entity_id: EntityId, payloads: dict[int, bytes]) -> None:
            if 501 in payloads:
                raise JournalUnavailable("now")
            await super()._redact(entity_id, payloads)

    parts = service._parts
    service._parts = Parts(parts.gateway, Interrupted(postgres_journal._connections))  # type: ignore
    _, context = await erase(service, reason="first")
    assert context.code is grpc.StatusCode.UNAVAILABLE
    assert b"state 555".hex() in everything(database)
    service._parts = parts
    reply, context = await erase(service, reason="second")
    assert (context.code, reply.events) == (None, 601)
    assert b"state 555".hex() not in everything(database)


async def test_read_sides_that_have_yet_to_see_its_events_find_no_gap(
    service: ErasureMethods, postgres_journal: PostgresJournal
) -> None:
    append = append_of("a", 0, events=3)
    await postgres_journal.append(append)
    await erase(service)
    events = await postgres_journal.after(append.shard, Offset(0), 10)
    assert [event.envelope.sequence_number for event in events] == [1, 2, 3, 4]
    assert [event.envelope.meta.revision for event in events] == [1, 2, 3, 4]


async def test_an_event_that_nobody_can_read_is_removed_too(
    service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
) -> None:
    await postgres_journal.append(append_of("a", 0, events=2))
    with connected(database) as connection:
        connection.execute("update event_journal set event_payload = '\\xff01' where sequence_number = 1")
    _, context = await erase(service)
    assert context.code is None
    assert "ff01" not in everything(database)


@pytest.mark.parametrize(
    ("entity", "reason", "code"),
    [
        ("", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("a", "x" * 1_001, grpc.StatusCode.INVALID_ARGUMENT),
        ("a", "\0", grpc.StatusCode.INVALID_ARGUMENT),
        ("nobody", "", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_cannot_be_erased_is_refused(
    service: ErasureMethods, database: Database, entity: str, reason: str, code: grpc.StatusCode
) -> None:
    _, context = await erase(service, entity, reason=reason)
    assert context.code is code
    with connected(database) as connection:
        assert connection.execute("select * from cos_erased_entities").fetchall() == []


async def test_unless_it_is_enabled_it_is_unimplemented_and_no_client_can_ask_the_entity_itself() -> None:
    gateway = Gateway()
    one = await ingress(gateway)
    context = Context()
    await one.EraseEntity(EraseEntityRequest(entity_id="a"), context)
    assert context.code is grpc.StatusCode.UNIMPLEMENTED
    context = Context()
    await one.ProcessCommand(ProcessCommandRequest(entity_id="a", command=PbAny.FromString(ERASE)), context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert gateway.commands == []
    assert "cos_ray.v1.ErasureService" in SERVICES


def test_the_texts_are_those_of_the_protos() -> None:
    for message, expected in ((EraseEntityRequest(), ERASE), (EntityErased(), ERASED)):
        wrapped = PbAny()
        wrapped.Pack(message)
        assert wrapped.SerializeToString() == expected
