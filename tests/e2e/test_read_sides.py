"""Read sides as an operator and a client see them: the whole service, and `cos-ray readside`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.any import pack

from cos_ray.protocol.pb.chief_of_state.v1.manager_pb2 import GetLatestOffsetRequest, PauseReadSideRequest
from cos_ray.protocol.pb.chief_of_state.v1.manager_pb2_grpc import ReadSideManagerServiceStub
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount
from cos_ray.samples.bank.read_handler import read_balances
from tests.support.running_service import BankHandlers, RunningService, eventually

ID = "balances"


def cos_ray(service: RunningService, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--host", "127.0.0.1", "--port", str(service.port)]
    command = [sys.executable, "-m", "cos_ray", "readside", *arguments, *where]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def all_resumed(service: RunningService) -> Iterator[None]:
    """Other tests use the same service."""
    yield
    cos_ray(service, "resume", "--id", ID)


def processed(
    service: RunningService, account: str, command: OpenAccount | Deposit, *metadata: tuple[str, str]
) -> dict[str, str | bytes]:
    """Run the command; the trailing metadata of its reply."""
    request = ProcessCommandRequest(entity_id=account, command=pack(command))
    with service.client() as client:
        _, call = client.ProcessCommand.with_call(request, timeout=30, metadata=metadata)
        return dict(call.trailing_metadata())


def opened(service: RunningService, account: str) -> None:
    """Open the account. On a busy machine its process may take longer to start than a command may."""

    def is_open() -> bool:
        try:
            processed(service, account, OpenAccount(owner="Ada"))
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.ALREADY_EXISTS)
        return True

    eventually(is_open, 60)


def balance(handlers: BankHandlers, account: str) -> int | None:
    return next((row.balance for row in read_balances(handlers.balances) if row.account_id == account), None)


def states(service: RunningService) -> set[str]:
    (found,) = json.loads(cos_ray(service, "status", "--id", ID, "--json").stdout)
    return {shard["state"] for shard in found["shards"]}


def test_a_reply_that_waits_for_the_read_side_comes_after_the_event_is_handled(
    service: RunningService, handlers: BankHandlers
) -> None:
    opened(service, "waited-for")
    for amount in range(1, 21):
        trailing = processed(service, "waited-for", Deposit(amount=1), ("x-cos-wait-for", ID))
        assert "x-cos-read-side-pending" not in trailing
        assert balance(handlers, "waited-for") == amount


def test_paused_nothing_is_delivered_until_resumed(service: RunningService, handlers: BankHandlers) -> None:
    opened(service, "paused")
    eventually(lambda: balance(handlers, "paused") == 0)
    assert cos_ray(service, "pause", "--id", ID).returncode == 0
    assert states(service) == {"SHARD_STATE_PAUSED"}
    trailing = processed(service, "paused", Deposit(amount=7), ("x-cos-wait-for", ID))
    assert trailing["x-cos-read-side-pending"] == ID
    assert balance(handlers, "paused") == 0
    assert cos_ray(service, "resume", "--id", ID).returncode == 0
    eventually(lambda: balance(handlers, "paused") == 7)
    eventually(lambda: states(service) == {"SHARD_STATE_RUNNING"})


def test_a_restart_goes_through_the_journal_again_and_back_to_its_offsets(service: RunningService) -> None:
    opened(service, "restarted")

    def offsets() -> dict[int, int]:
        with grpc.insecure_channel(service.address) as channel:
            reply = ReadSideManagerServiceStub(channel).GetLatestOffset(
                GetLatestOffsetRequest(read_side_id=ID), timeout=10
            )
        return {entry.cluster_shard_number: entry.offset for entry in reply.offsets}

    assert len(offsets()) == 16
    eventually(lambda: max(offsets().values()) > 0)
    before = offsets()
    assert cos_ray(service, "restart", "--id", ID).returncode == 0
    eventually(lambda: max(offsets().values()) >= max(before.values()))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("skip", "--id", ID, "--shard-number", "16"), "INVALID_ARGUMENT: wrong shard number provided"),
        (("resume", "--id", "nobody"), "NOT_FOUND: unknown read side nobody"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(
    service: RunningService, arguments: tuple[str, ...], error: str
) -> None:
    done = cos_ray(service, *arguments)
    assert (done.returncode, done.stderr) == (1, f"{error}\n")


def test_an_unknown_read_side_to_wait_for_is_told_before_the_command_runs(service: RunningService) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        processed(service, "never opened", OpenAccount(owner="Ada"), ("x-cos-wait-for", "nobody"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with grpc.insecure_channel(service.address) as channel:
        manager = ReadSideManagerServiceStub(channel)
        with pytest.raises(grpc.RpcError) as unknown:
            manager.PauseReadSide(PauseReadSideRequest(read_side_id="nobody"), timeout=10)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
