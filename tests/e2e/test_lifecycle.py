"""Starting and stopping: what is kept, what is left behind, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from google.protobuf.any import pack

from cos_ray.cli.child_process import ChildProcess
from cos_ray.cluster.names import PROCESS_COORDINATOR
from cos_ray.postgres.database import Database
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import OpenAccount
from cos_ray.samples.bank.read_handler import Balance, read_balances
from cos_ray.system.free_port import free_port
from tests.support.handler import BANK_CLASS
from tests.support.observability import Scrape
from tests.support.running_ray import live_actors
from tests.support.running_service import (
    BANK,
    RunningService,
    dying_with_us,
    eventually,
    family_of,
    plain_environment,
    serve_and_fail,
)

OUTAGE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED}
"""How a command may end while the database is away."""


def test_when_it_says_that_it_is_ready_the_first_entity_needs_no_new_process(
    own_service: RunningService,
) -> None:
    own_service.start()
    names = {actor.name for actor in live_actors(own_service.dashboard, token=own_service.ray_token)}
    assert PROCESS_COORDINATOR in names
    assert [name for name in names if name.startswith("journal:")]
    titles = [" ".join(process.cmdline()) for process in family_of(own_service.pid).values()]
    assert "ray::IDLE" in [title.strip() for title in titles]


async def test_however_it_is_stopped_every_state_is_kept_and_no_process_left(
    own_service: RunningService,
) -> None:
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        await bank.open("kept", "Kept", 100)
        before = await bank.deposit("kept", 23)
    # As Ctrl-C at a terminal does: a signal to the whole process group.
    assert own_service.stop(lambda pid: os.killpg(pid, signal.SIGINT)) == 0
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
    # As a process manager does that knows nothing of launchers.
    assert own_service.stop(lambda pid: os.killpg(pid, signal.SIGTERM)) == 0
    assert own_service.left_behind() == []


async def test_behind_serves_proxies_and_with_handlers_inside_the_same_requests_are_served(
    own_service: RunningService, tmp_path: Path
) -> None:
    balances = tmp_path / "inside.db"
    own_service.environment |= {
        "COS_INGRESS_LISTENER": "serve",
        "COS_WRITE_SIDE_HANDLER": BANK_CLASS,
        "COS_READ_SIDE_ACTORS": "2",
        "COS_READ_SIDE_CONFIG__HANDLER__inside": f"{BANK}.python_read_handler:Balances",
        "COS_READ_SIDE_CONFIG__FAILURE_POLICY__inside": "PARK",
        "BANK_BALANCES": str(balances),
    }
    del own_service.environment["COS_WRITE_SIDE_HOST"], own_service.environment["COS_WRITE_SIDE_PORT"]
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        bank = Bank(channel)
        await serves_the_bank(bank)
    eventually(lambda: read_balances(balances) == [Balance("ada", "Ada", 20_01, True, 3)])
    assert own_service.stop() == 0
    assert own_service.left_behind() == []


async def test_with_a_temporary_folder_whose_path_is_too_long_for_sockets_it_serves_and_says_so(
    own_service: RunningService, tmp_path: Path
) -> None:
    own_service.environment["TMPDIR"] = str(tmp_path)
    own_service.start()
    async with grpc.aio.insecure_channel(own_service.address) as channel:
        await Bank(channel).open("long", "Long", 100)
    notes = [line for line in own_service.output if "are kept in /tmp" in line]
    assert all(f"TMPDIR is {str(tmp_path)!r}, which has " in line for line in notes), own_service.output
    assert len(notes) == 1
    assert own_service.stop() == 0


async def test_without_its_write_handler_the_service_is_up_and_stores_nothing(
    own_service: RunningService,
) -> None:
    port = str(free_port())
    own_service.environment |= {
        "COS_WRITE_SIDE_PORT": port,
        "COS_WRITE_SIDE_PROTOCOL": "http",
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
        eventually(
            lambda: Scrape.of(own_service.metrics).total("ray_cos_breaker_open", handler="write side") == 1.0,
            within=30,
        )

        handler = ChildProcess(
            [*dying_with_us(), "-m", BANK, "http-write-handler", "--port", port], plain_environment()
        )
        try:
            eventually(lambda: succeeds(client, command))
            reply = client.GetState(GetStateRequest(entity_id="patient"), timeout=20)
            assert reply.meta.revision_number == 1
            async with grpc.aio.insecure_channel(own_service.address) as channel:
                await serves_the_bank(Bank(channel, timeout=30))
        finally:
            assert handler.stop() == 0


async def serves_the_bank(bank: Bank) -> None:
    """Fail unless accounts can be opened and used, and what may not be is refused by the handler."""
    assert await bank.open("ada", "Ada", 20_00) == Statement("ada", "Ada", 20_00, True, 2)
    assert (await bank.deposit("ada", 1)).balance == 20_01
    with pytest.raises(BankError, match=r"^cannot withdraw 50\.00: the balance is 20\.01$") as no:
        await bank.withdraw("ada", 50_00)
    assert no.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await bank.account("ada")).revision == 3


def succeeds(client: ChiefOfStateServiceStub, command: ProcessCommandRequest) -> bool:
    """Whether the command is accepted; only a missing handler may keep it from that."""
    call = client.ProcessCommand.future(command, timeout=20)
    if call.exception() is None:
        return True
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_the_embedded_database_is_started_again_when_it_dies(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        await bank.open("tough", "Tough")
        family = psutil.Process(service.pid).children()
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


def test_a_folder_for_ray_whose_path_is_too_long_is_named_at_once() -> None:
    folder = "/tmp/" + "a" * 40
    failed = serve_and_fail(
        {
            "COS_WRITE_SIDE_HOST": "127.0.0.1",
            "COS_WRITE_SIDE_PORT": "1",
            "COS_PORT": str(free_port()),
            "COS_HTTP_PORT": str(free_port()),
            "RAY_TMPDIR": folder,
        }
    )
    assert failed.returncode == 1
    assert failed.stderr == (
        f"RAY_TMPDIR is {folder!r}, which has 45 bytes; allowed: 32, for the paths of sockets in it\n"
    )


def test_each_wrong_variable_is_named_with_its_value_and_what_is_allowed() -> None:
    wrong = {
        "COS_ENTITY_PLACEMENT": ("everywhere", "dedicated"),
        "COS_PORT": ("70000", "65535"),
        "COS_PASSIVATION_IDLE_AFTER": ("soon", "500ms"),
        "COS_READ_SIDE_CONFIG__PORT__orders": ("none", "65535"),
    }
    failed = serve_and_fail(
        {
            "COS_WRITE_SIDE_HOST": "h",
            "COS_WRITE_SIDE_PORT": "1",
            "COS_READ_SIDE_ENABLED": "true",
            "COS_READ_SIDE_CONFIG__HOST__orders": "h",
            "COS_READ_SIDE_CONFIG__PORT__orders": "1",
            **{variable: value for variable, (value, _) in wrong.items()},
        }
    )
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    lines = failed.stderr.splitlines()
    assert len(lines) == len(wrong)
    for variable, (value, allowed) in wrong.items():
        (line,) = (line for line in lines if variable in line)
        assert value in line
        assert allowed in line


def test_a_missing_write_handler_is_named() -> None:
    failed = serve_and_fail({"COS_WRITE_SIDE_PORT": "1"})
    assert failed.returncode != 0
    assert "COS_WRITE_SIDE_HOST" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_class_that_cannot_be_imported_stops_the_start_with_a_line() -> None:
    failed = serve_and_fail({"COS_WRITE_SIDE_HANDLER": "no_such_bank:Bank"})
    assert failed.returncode == 2
    assert failed.stderr == (
        "COS_WRITE_SIDE_HANDLER: no_such_bank:Bank cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_bank'\n"
    )


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
