"""`cos-ray serve` on a database that Chief of State left behind, with the runtime role."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.any import pack
from psycopg import sql

from cos_ray.postgres.database import Database
from cos_ray.postgres.migrations import migrate
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    ProcessCommandRequest,
    SubscribeRequest,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetEventsRequest, GetStateAtRequest
from cos_ray.protocol.pb.cos_ray.v1.history_pb2_grpc import HistoryServiceStub
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import OpenAccount
from cos_ray.system.free_port import free_port
from tests.support.chief_of_state import ChiefOfState, left_behind, text
from tests.support.fixtures_postgres import connected
from tests.support.running_service import BankHandlers, RunningService, eventually, serve_and_fail

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
RUNTIME, OWNER = "cos e2e runtime", "cos e2e owner"


@pytest.fixture
def old(empty_database: Database) -> Iterator[ChiefOfState]:
    """Taken over by its owner, with a runtime role for the service."""
    old = left_behind(empty_database, 9)
    migrate(empty_database)
    script = ROLES.read_text(encoding="utf-8").replace(
        "'public'", sql.Literal(empty_database.schema).as_string()
    )
    script = script.replace("'cos_owner'", f"'{OWNER}'").replace("'cos_runtime'", f"'{RUNTIME}'")
    with connected(empty_database) as connection:
        connection.execute(script.encode())
        connection.execute(f"alter role \"{RUNTIME}\" password 'secret'".encode())
    yield old
    with connected(empty_database) as connection:
        for role in (RUNTIME, OWNER):
            connection.execute(f'drop owned by "{role}"; drop role "{role}"'.encode())


def assert_dates_are_as_stored(old: ChiefOfState, service: RunningService) -> None:
    """To the nanosecond, at every door."""
    query = "select event_payload from event_journal where persistence_id = 'order-1' order by ordering"
    stored = [EventWrapper.FromString(payload).meta.revision_date for (payload,) in old.run(query)]
    assert all(date.nanos % 1_000 for date in stored)
    newest = stored[-1]
    with grpc.insecure_channel(service.address) as channel:
        client, history = ChiefOfStateServiceStub(channel), HistoryServiceStub(channel)
        state = client.GetState(GetStateRequest(entity_id="order-1"), timeout=30)
        then = history.GetStateAt(GetStateAtRequest(entity_id="order-1", time=newest), timeout=30)
        assert state.meta.revision_date == then.meta.revision_date == newest
        events = history.GetEvents(GetEventsRequest(entity_id="order-1"), timeout=30).events
        assert [event.meta.revision_date for event in events] == stored
        stream = client.Subscribe(
            SubscribeRequest(entity_id="order-1"), timeout=30, metadata=[("x-cos-from-revision", "0")]
        )
        assert [next(stream).meta.revision_date for _ in stored] == stored
        stream.cancel()
    place = f"http://127.0.0.1:{service.http_port}/v1/entities/order-1/state"
    for path in (place, f"{place}?at={newest.ToJsonString()}"):
        with urllib.request.urlopen(path, timeout=30) as reply:
            assert json.load(reply)["meta"]["revision_date"] == newest.ToJsonString()


@pytest.mark.timeout(240)
def test_it_goes_on_with_few_rights_and_saves_snapshots(
    old: ChiefOfState, handlers: BankHandlers, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    settings = {
        **handlers.settings,
        "COS_READ_SIDE_ENABLED": "false",
        "COS_DB_HOST": old.database.host,
        "COS_DB_PORT": str(old.database.port),
        "COS_DB_NAME": old.database.name,
        "COS_DB_SCHEMA": old.database.schema,
        "COS_DB_USER": RUNTIME,
        "COS_DB_PASSWORD_FILE": str(password),
        "COS_SNAPSHOT_FREQUENCY": "1",
        "COS_SERVER_PROTOCOL": "both",
        "COS_SUBSCRIPTION_ENABLED": "true",
    }
    ports = {"COS_PORT": str(free_port()), "COS_HTTP_PORT": str(free_port())}
    refused = serve_and_fail({**settings, **ports, "COS_NUM_SHARDS": "16"})
    assert refused.returncode == 1
    assert "COS_NUM_SHARDS is '16', which does not explain the tags" in refused.stderr
    assert refused.stderr.splitlines()[-1].endswith("allowed: 9")
    service = RunningService(tmp_path / "data", settings)
    try:
        service.start()
        with service.client() as client:
            request = GetStateRequest(entity_id="order-1")
            reply = client.GetState(request, timeout=30)
            assert (reply.meta.revision_number, reply.state) == (2, text("state 4"))
            assert_dates_are_as_stored(old, service)
            command = OpenAccount(owner="Ada", opening_balance=100)
            reply = client.ProcessCommand(
                ProcessCommandRequest(entity_id="ada", command=pack(command)), timeout=60
            )
            assert reply.meta.revision_number >= 1
            with pytest.raises(grpc.RpcError) as caught:
                client.GetState(GetStateRequest(entity_id="nobody"), timeout=30)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        count = "select count(*) from state_snapshot where persistence_id = 'ada'"
        eventually(lambda: old.run(count) == [(1,)])
        tags = (
            "select distinct tag from event_tag join event_journal on ordering = event_id"
            " where persistence_id = 'ada'"
        )
        assert old.run(tags) == [(old.tag("ada"),)]
        assert service.stop() == 0
    finally:
        service.end()
    # The database is another's, and goes on; none of our own was made.
    assert old.run("select 1") == [(1,)]
    assert not (tmp_path / "data").exists()
