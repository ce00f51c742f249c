"""Replicas of the ingress come under load: as many as the commands in hand call for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import psutil
import pytest
from google.protobuf.any import pack

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount
from tests.support.running_service import RunningService, family_of

CLIENTS = 150
"""More than one replica is to have in hand (`cos_ray.cluster.serve_app.TARGET_ONGOING_REQUESTS`)."""

SLOW = """
import asyncio

from cos_ray.samples.bank.python_handler import BankAccounts


class SlowAccounts(BankAccounts):
    async def handle_command(self, command, prior_state, meta):
        await asyncio.sleep(1.0)
        return super().handle_command(command, prior_state, meta)
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    (tmp_path / "slow_accounts.py").write_text(SLOW)
    settings = {
        "PYTHONPATH": str(tmp_path),
        "COS_WRITE_SIDE_HANDLER": "slow_accounts:SlowAccounts",
        "COS_ENTITY_PLACEMENT": "sharded",
        "COS_INGRESS_REPLICAS": "1",
        "COS_INGRESS_MAX_REPLICAS": "2",
        "COS_MAX_CONNECTION_AGE": "3s",
        "COS_COMMAND_HANDLER_TIMEOUT": "60",
    }
    service = RunningService(tmp_path / "data", settings)
    try:
        service.start()
        yield service
    finally:
        service.end()


def connections(service: RunningService) -> list[int]:
    """How many clients each replica has."""
    found = []
    for process in family_of(service.pid).values():
        try:
            if "ServeReplica" in " ".join(process.cmdline()):
                open_ones = process.net_connections("tcp")
                found.append(
                    sum(
                        one.status == psutil.CONN_ESTABLISHED and one.laddr.port == service.port
                        for one in open_ones
                    )
                )
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(300)
async def test_replicas_come_under_load_take_their_share_of_clients_and_no_command_fails(
    service: RunningService,
) -> None:
    stop, answered = asyncio.Event(), 0

    async def client(number: int) -> None:
        nonlocal answered
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(service.address, options) as channel:
            stub, command = ChiefOfStateServiceStub(channel), pack(OpenAccount(owner="Ada"))
            while not stop.is_set():
                request = ProcessCommandRequest(entity_id=f"scaled-{number}", command=command)
                await stub.ProcessCommand(request, timeout=60)
                answered, command = answered + 1, pack(Deposit(amount=1))

    async def until_shared() -> None:
        while True:
            shares = await asyncio.to_thread(connections, service)
            if len(shares) == 2 and min(shares) > CLIENTS // 5:
                return
            await asyncio.sleep(0.5)

    assert len(connections(service)) == 1
    running = [asyncio.ensure_future(client(number)) for number in range(CLIENTS)]
    try:
        await asyncio.wait_for(until_shared(), 200)
    finally:
        stop.set()
        # Raises what any call has failed with.
        await asyncio.gather(*running)
    assert answered > CLIENTS
