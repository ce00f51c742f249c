"""Starting and stopping: what is kept, what is left behind, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from google.protobuf.any import pack

from cos_ray.bootstrap.listening import free_port
from cos_ray.postgres.database import Database
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import OpenAccount
from tests.fixtures_postgres import connected
from tests.running_service import (
    BANK,
    BankHandlers,
    RunningService,
    eventually,
    family_of,
    plain_environment,
    serve_and_fail,
)

OUTAGE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED}
"""How a command may end while the database is away."""


async def test_a_restart_keeps_every_state_and_leaves_no_process(own_service: RunningService) -> None:
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        await bank.open("kept", "Kept", 100)
        before = await bank.deposit("kept", 23)
    assert own_service.stop() == 0
    assert own_service.left_behind() == []

    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        assert await bank.account("kept") == before
        assert (await bank.deposit("kept", 1)).revision == before.revision + 1

    # Killed outright, the launcher cannot clean up; what it started must see to that itself. (Ray's
    # two agents do, too, but spend a minute trying to report the death to a head that is gone.)
    own_service.kill()
    assert [process for process in own_service.left_behind() if "Agent" not in process] == []

    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        assert (await Bank(channel).account("kept")).revision == before.revision + 1
    assert own_service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_process_group_stops_it_in_time(
    own_service: RunningService, number: signal.Signals
) -> None:
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        await Bank(channel).open("stopped", "Stopped")
    # As Ctrl-C at a terminal does, or a process manager that knows nothing of launchers.
    assert own_service.stop(lambda pid: os.killpg(pid, number)) == 0
    assert own_service.left_behind() == []


async def test_without_the_fast_ingress_the_same_requests_are_served(own_service: RunningService) -> None:
    own_service.environment |= {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
    own_service.start()
    family = psutil.Process(own_service.pid).children(recursive=True)
    assert not any("haproxy" in process.name() for process in family)
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        await bank.open("plain", "Plain", 100)
        assert (await bank.deposit("plain", 1)).balance == 101
        with pytest.raises(Exception, match="1\\.01"):
            await bank.withdraw("plain", 1_000)
    assert own_service.stop() == 0
    assert own_service.left_behind() == []


def test_without_its_write_handler_the_service_is_up_and_stores_nothing(
    own_service: RunningService, tmp_path: Path
) -> None:
    port = free_port()
    own_service.environment |= {
        "COS_WRITE_SIDE_PORT": str(port),
        "COS_WRITE_SIDE_BREAKER_ENABLED": "true",
        "COS_WRITE_SIDE_BREAKER_MAX_FAILURES": "1",
        "COS_WRITE_SIDE_BREAKER_RESET_TIMEOUT": "15s",
    }
    own_service.start()
    command = ProcessCommandRequest(entity_id="patient", command=pack(OpenAccount(owner="Patient")))
    with own_service.client() as client:
        with pytest.raises(grpc.RpcError) as refused:
            client.ProcessCommand(command, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as unknown:
            client.GetState(GetStateRequest(entity_id="patient"), timeout=20)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        eventually(lambda: breaker_in(own_service) == 1.0, within=30)

        handler = subprocess.Popen(
            [sys.executable, "-m", BANK, "write-handler", "--port", str(port)],
            env=plain_environment(),
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: succeeds(client, command))
            reply = client.GetState(GetStateRequest(entity_id="patient"), timeout=20)
            assert reply.meta.revision_number == 1
        finally:
            handler.terminate()
            handler.wait(10)


def breaker_in(service: RunningService) -> float | None:
    """What Prometheus would be told of the write side's circuit breaker; None if nothing is."""
    for process in family_of(service.pid).values():
        if "DashboardAgent" not in process.name():
            continue
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN and connection.laddr:
                for line in page(f"http://127.0.0.1:{connection.laddr.port}/metrics").splitlines():
                    if line.startswith("ray_cos_breaker_open{"):
                        return float(line.split()[-1])
    return None


def page(url: str) -> str:
    """What is there, or nothing: not each port speaks HTTP."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        urllib.request.urlopen(url, timeout=2) as reply,
    ):
        return str(reply.read().decode())
    return ""


def succeeds(client: ChiefOfStateServiceStub, command: ProcessCommandRequest) -> bool:
    """Whether the command is accepted; only a missing handler may keep it from that."""
    call = client.ProcessCommand.future(command, timeout=20)
    if call.exception() is None:
        return True
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_the_embedded_database_is_started_again_when_it_dies(own_service: RunningService) -> None:
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        await bank.open("tough", "Tough")
        family = psutil.Process(own_service.pid).children()
        (postgres,) = (process for process in family if process.name() == "postgres")
        postgres.kill()
        revisions = []
        while len(revisions) < 3:
            outcome = (await asyncio.gather(bank.deposit("tough", 1), return_exceptions=True))[0]
            if isinstance(outcome, BankError):
                assert outcome.code in OUTAGE, outcome
            else:
                assert isinstance(outcome, Statement), outcome
                revisions.append(outcome.revision)
        statement = await bank.account("tough")
        assert statement.revision == revisions[-1]
        assert statement.balance == statement.revision - 1


def test_a_taken_port_is_named_with_who_has_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = serve_and_fail(
            {
                "COS_WRITE_SIDE_HOST": "127.0.0.1",
                "COS_WRITE_SIDE_PORT": "1",
                "COS_ADDRESS": "127.0.0.1",
                "COS_PORT": str(port),
            }
        )
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    for fact in (str(port), "COS_PORT", str(os.getpid())):
        assert fact in failed.stderr


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("COS_ENTITY_PLACEMENT", "everywhere", "dedicated"),
        ("COS_PORT", "70000", "65535"),
        ("COS_PASSIVATION_IDLE_AFTER", "soon", "500ms"),
        ("COS_READ_SIDE_CONFIG__PORT__orders", "none", "65535"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    failed = serve_and_fail(
        {
            "COS_WRITE_SIDE_HOST": "h",
            "COS_WRITE_SIDE_PORT": "1",
            "COS_READ_SIDE_ENABLED": "true",
            "COS_READ_SIDE_CONFIG__HOST__orders": "h",
            "COS_READ_SIDE_CONFIG__PORT__orders": "1",
            variable: value,
        }
    )
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    (line,) = failed.stderr.splitlines()
    for fact in (variable, value, allowed):
        assert fact in line


def test_a_missing_write_handler_is_named() -> None:
    failed = serve_and_fail({"COS_WRITE_SIDE_PORT": "1"})
    assert failed.returncode != 0
    assert "COS_WRITE_SIDE_HOST" in failed.stderr
    assert "Traceback" not in failed.stderr


async def test_a_configured_database_is_used_and_left_running(
    handlers: BankHandlers, empty_database: Database, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(empty_database.password)
    service = RunningService(
        tmp_path / "unused",
        {
            **handlers.settings,
            "COS_DB_HOST": empty_database.host,
            "COS_DB_PORT": str(empty_database.port),
            "COS_DB_SCHEMA": empty_database.schema,
            "COS_DB_PASSWORD_FILE": str(password),
        },
    )
    try:
        service.start()
        async with grpc.aio.insecure_channel(service.address) as channel:
            await Bank(channel).open("elsewhere", "Else")
        assert service.stop() == 0
    finally:
        service.end()
    assert not (tmp_path / "unused").exists()
    with connected(empty_database) as connection:
        assert connection.execute("select persistence_id from event_journal").fetchall() == [("elsewhere",)]


def test_a_database_that_refuses_us_is_told_at_once(postgres_server: Database) -> None:
    failed = serve_and_fail(
        {
            "COS_WRITE_SIDE_HOST": "127.0.0.1",
            "COS_WRITE_SIDE_PORT": "1",
            "COS_PORT": str(free_port()),
            "COS_HTTP_PORT": str(free_port()),
            "COS_DB_HOST": postgres_server.host,
            "COS_DB_PORT": str(postgres_server.port),
            "COS_DB_PASSWORD": "not the password",
        }
    )
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "password authentication failed" in failed.stderr
    assert "not the password" not in failed.stderr + failed.stdout
