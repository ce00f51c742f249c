"""The service as a client and an operator see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import psycopg
import pytest
from google.protobuf.any import pack
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from cos_ray.cluster.inspection import pids_of_entity
from cos_ray.domain.ids import EntityId
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    ProcessCommandRequest,
    SubscribeAllRequest,
)
from cos_ray.samples.bank.client import Bank, BankError
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, Deposit, OpenAccount
from cos_ray.samples.bank.read_handler import read_balances
from tests.support.running_service import BankHandlers, RunningService, eventually

PROTOS = Path(__file__).resolve().parents[2] / "protos"
BANK_PROTOS = PROTOS.parent / "cos_ray/samples/bank/protos"


def journal_rows(service: RunningService, entity_id: str) -> list[tuple[int, bytes, str]]:
    """Sequence number, payload and tag of each of an entity's rows."""
    with psycopg.connect(service.database_url) as connection:
        return connection.execute(
            "select sequence_number, event_payload, tag from event_journal "
            "join event_tag on event_id = ordering where persistence_id = %s order by sequence_number",
            [entity_id],
        ).fetchall()


def opened(owner: str, balance: int = 0) -> OpenAccount:
    return OpenAccount(owner=owner, opening_balance=balance)


def test_a_client_generated_from_the_protos_alone_runs_commands(
    service: RunningService, tmp_path: Path
) -> None:
    sources = [(PROTOS, "chief_of_state/v1"), (BANK_PROTOS, "bank/v1")]
    for root, package in sources:
        files = sorted(str(path) for path in (root / package).glob("*.proto"))
        outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", *outputs, *files], check=True)
    client = Path(__file__).with_name("outside_client.py")
    done = subprocess.run(
        [sys.executable, str(client), service.address, "from outside"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[0] == "Outside 750 3 from outside", done.stderr


async def test_a_refused_command_stores_nothing_and_says_why(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        await bank.open("overdrawn", "Ada", 2_000)
        with pytest.raises(BankError) as refused:
            await bank.withdraw("overdrawn", 5_000)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "20.00" in refused.value.reason
        assert (await bank.account("overdrawn")).revision == 2
    assert len(journal_rows(service, "overdrawn")) == 2


def test_an_unknown_entity_is_not_found_with_an_empty_message(service: RunningService) -> None:
    with service.client() as client, pytest.raises(grpc.RpcError) as refused:
        client.GetState(GetStateRequest(entity_id="nobody"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == ""


@pytest.mark.parametrize(
    ("entity_id", "reason"),
    [("", "empty entity ID"), ("x" * 256, "longer than 255"), ("nul\0nul", "NUL")],
)
def test_an_unusable_entity_id_is_refused(service: RunningService, entity_id: str, reason: str) -> None:
    command = pack(opened("Nobody"))
    with service.client() as client, pytest.raises(grpc.RpcError) as refused:
        client.ProcessCommand(ProcessCommandRequest(entity_id=entity_id, command=command), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in refused.value.details()


@pytest.mark.parametrize("entity_id", ["a/b c%2F?", "\N{GRINNING FACE}-é", "x" * 255])
def test_any_other_entity_id_is_an_entity(
    service: RunningService, handlers: BankHandlers, entity_id: str
) -> None:
    with service.client() as client:
        reply = client.ProcessCommand(
            ProcessCommandRequest(entity_id=entity_id, command=pack(opened("Odd"))), timeout=20
        )
        assert (reply.meta.entity_id, reply.meta.revision_number) == (entity_id, 1)
        assert client.GetState(GetStateRequest(entity_id=entity_id), timeout=10).state == reply.state
    eventually(lambda: entity_id in {row.account_id for row in read_balances(handlers.balances)})


def test_the_journal_holds_an_event_wrapper_for_each_event(service: RunningService) -> None:
    with service.client() as client:
        for command in (opened("Wrapped", 5), Deposit(amount=10)):
            request = ProcessCommandRequest(entity_id="wrapped", command=pack(command))
            reply = client.ProcessCommand(request, timeout=20)
    rows = journal_rows(service, "wrapped")
    # Opening with money in it is two events.
    assert [sequence_number for sequence_number, _, _ in rows] == [1, 2, 3]
    wrapper = EventWrapper.FromString(rows[-1][1])
    assert (wrapper.resulting_state, wrapper.meta) == (reply.state, reply.meta)
    account = Account()
    assert wrapper.resulting_state.Unpack(account)
    assert account.balance == 15


def test_commands_to_one_entity_run_one_after_the_other(service: RunningService) -> None:
    with service.client() as client, ThreadPoolExecutor(16) as threads:
        client.ProcessCommand(
            ProcessCommandRequest(entity_id="busy", command=pack(opened("Busy"))), timeout=20
        )
        deposit = ProcessCommandRequest(entity_id="busy", command=pack(Deposit(amount=1)))
        replies = list(threads.map(lambda _: client.ProcessCommand(deposit, timeout=20), range(64)))
    assert sorted(reply.meta.revision_number for reply in replies) == list(range(2, 66))
    for reply in replies:
        account = Account()
        assert reply.state.Unpack(account)
        assert account.balance == reply.meta.revision_number - 1


async def test_the_read_side_gets_every_event(service: RunningService, handlers: BankHandlers) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        await bank.open("watched", "Watched")
        for amount in range(1, 11):
            last = await bank.deposit("watched", amount)
    eventually(
        lambda: (
            (55, last.revision)
            in {
                (row.balance, row.revision)
                for row in read_balances(handlers.balances)
                if row.account_id == "watched"
            }
        )
    )


def test_entities_are_ray_actors_by_name(service: RunningService) -> None:
    with service.client() as client:
        client.ProcessCommand(
            ProcessCommandRequest(entity_id="by name", command=pack(opened("Name"))), timeout=20
        )
    assert len(pids_of_entity(service.dashboard, service.ray_token, EntityId("by name"))) == 1


async def test_after_kill_9_of_its_process_an_entity_goes_on_where_it_was(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        await bank.open("mortal", "Mortal")
        for round_ in range(3):
            (pid,) = pids_of_entity(service.dashboard, service.ray_token, EntityId("mortal"))
            os.kill(pid, signal.SIGKILL)
            statement = await bank.deposit("mortal", 1)
            assert (statement.balance, statement.revision) == (round_ + 1, round_ + 2)


def test_health_is_serving_for_each_service_and_no_other(service: RunningService) -> None:
    with grpc.insecure_channel(service.address) as channel:
        health = HealthStub(channel)
        for name in ("", "chief_of_state.v1.ChiefOfStateService"):
            reply = health.Check(HealthCheckRequest(service=name), timeout=10)
            assert reply.status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(HealthCheckRequest(service="nothing.of.the.Kind"), timeout=10)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_subscriptions_say_that_they_are_off(service: RunningService) -> None:
    with service.client() as client, pytest.raises(grpc.RpcError) as refused:
        next(client.SubscribeAll(SubscribeAllRequest(), timeout=10))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == ("Subscription is not enabled; configure subscription to use streaming")


@pytest.mark.parametrize("path", ["ready", "alive"])
def test_http_probes_answer(service: RunningService, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/{path}", timeout=10) as reply:
        assert reply.status == 200
