"""The service as `serve deploy` brings it up, on three nodes with token authentication, and upgraded."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import psycopg
import pytest

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.protocol.codec import envelope_from_bytes
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest
from cos_ray.samples.bank.client import Bank, BankError
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import OpenAccount
from cos_ray.samples.bank.read_handler import read_balances
from cos_ray.testing.history import Ending, faults_of_calls
from tests.chaos.teller import Teller
from tests.support.running_deployment import DeployedService, newer_code
from tests.support.running_service import BankHandlers, eventually

ACCOUNTS = [EntityId(f"rolled-{number}") for number in range(8)]
CLIENTS = 8


@pytest.fixture(scope="module")
def deployed(handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedService]:
    """Our Serve configuration, deployed."""
    folder = tmp_path_factory.mktemp("deployed")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    nodes = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # As in the image.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    }
    # Two releases with their processes start and run on this machine at once: give commands time.
    settings = {**handlers.settings, "COS_SHARD_ACTORS": 2, "COS_COMMAND_HANDLER_TIMEOUT": 30}
    service = DeployedService(folder / "data", settings, nodes)
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.mark.timeout(240)
async def test_the_bank_works_on_it_and_other_programs_of_the_cluster_find_it(
    deployed: DeployedService, handlers: BankHandlers
) -> None:
    async with grpc.aio.insecure_channel(deployed.address) as channel:
        bank = Bank(channel)
        await bank.open("deployed", "Ada", 2_000)
        with pytest.raises(BankError) as refused:
            await bank.withdraw("deployed", 5_000)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert (await bank.deposit("deployed", 5)).revision == 3
    eventually(lambda: ("deployed", 2_005) in balances(handlers))
    program = (
        "import asyncio, cos_ray, ray; "
        f"ray.init({deployed.ray_address!r}, logging_level='ERROR', log_to_driver=False); "
        "state = asyncio.run(cos_ray.connect().state('deployed')); print(state.revision)"
    )
    assert deployed.run(program).split() == ["3"]
    assert {node.pid for node in deployed.actors("shard-host:")}


class StrictTeller(Teller):
    """For whom every end of a command is a failure but that it was done, or that the account lacks money."""

    patience = 60.0

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, ACCOUNTS)
        self.failed: list[str] = []

    def _ending(self, error: grpc.aio.AioRpcError) -> Ending:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            self.failed.append(f"{error.code().name}: {error.details()}")
        return super()._ending(error)


@pytest.mark.timeout(240)
async def test_new_code_is_rolled_out_under_load_without_a_failed_command(
    deployed: DeployedService, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    newer = newer_code(tmp_path)
    async with grpc.aio.insecure_channel(deployed.address) as channel:
        teller = StrictTeller(channel)
        for account in ACCOUNTS:
            await teller.process(account, OpenAccount(owner=account))
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(teller.run(random.Random(chance.random()), stop)) for _ in range(CLIENTS)
        ]
        environment = {"env_vars": {"PYTHONPATH": str(newer)}}
        await asyncio.to_thread(deployed.deploy, {"COS_RELEASE": "2"}, runtime_env=environment)
        await asyncio.to_thread(deployed.wait_until, "RUNNING")
        done = len(teller.calls)
        await asyncio.to_thread(eventually, lambda: len(teller.calls) > done + 50, 60)
        stop.set()
        await asyncio.gather(*clients)
    assert (teller.failed, teller.dishonest) == ([], [])
    assert faults_of_calls(history(deployed), teller.calls) == []
    codes = [psutil.Process(host.pid).environ().get("PYTHONPATH") for host in deployed.actors("shard-host:")]
    assert str(newer) in codes
    print(f"{len(teller.calls)} calls")


@pytest.mark.timeout(240)
def test_what_cannot_run_is_refused_in_a_line_and_the_service_goes_on(
    deployed: DeployedService, tmp_path: Path
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    secret = "a secret, and not for the arguments"
    refused(deployed, {"COS_DB_PASSWORD": "open"}, [f"COS_DB_PASSWORD is {secret}"])
    refused(deployed, {"COS_DB_PASSWORD_FILE": "/none"}, ["COS_DB_PASSWORD_FILE is '/none'; allowed: a text"])
    refused(deployed, {"COS_DB_PASSWORD_FILE": str(wrong)}, ["does not let us in", "password"])
    with psycopg.connect(deployed.database_url) as connection:
        connection.execute("insert into cos_ray_migrations values (1000, 'to come', 'x')")
    refused(deployed, {}, ["was set up by a newer cos_ray (step 1000"])
    with psycopg.connect(deployed.database_url) as connection:
        connection.execute("delete from cos_ray_migrations where number = 1000")
    with deployed.client() as client:
        reply = client.GetState(GetStateRequest(entity_id="deployed"), timeout=30)
    assert reply.meta.revision_number == 3


def test_of_all_releases_only_the_one_that_serves_keeps_its_actors(deployed: DeployedService) -> None:
    eventually(lambda: len(namespaces(deployed)) == 1, 60)
    for host in deployed.actors("shard-host:"):
        assert "PYTHONPATH" in psutil.Process(host.pid).environ()


def refused(deployed: DeployedService, args: dict[str, object], words: list[str]) -> None:
    """Fail unless Serve says why this is not deployed, in one line."""
    deployed.deploy({"COS_RELEASE": secrets.token_hex(4), **args})
    message = deployed.wait_until("DEPLOY_FAILED")
    first, line = message.splitlines()
    assert "failed with exception" in first
    for word in words:
        assert word in line


def namespaces(deployed: DeployedService) -> set[str]:
    """Where actors of the service live."""
    return {actor.namespace for actor in deployed.actors() if actor.namespace.startswith("cos-")}


def balances(handlers: BankHandlers) -> set[tuple[str, int]]:
    """What the read side has been told."""
    return {(row.account_id, row.balance) for row in read_balances(handlers.balances)}


def history(deployed: DeployedService) -> list[JournaledEvent]:
    """All that is stored of the accounts."""
    with psycopg.connect(deployed.database_url) as connection:
        rows = connection.execute(
            "select ordering, sequence_number, event_payload from event_journal "
            "where persistence_id like 'rolled-%' order by ordering"
        ).fetchall()
    return [
        JournaledEvent(Offset(ordering), envelope_from_bytes(Revision(number), payload))
        for ordering, number, payload in rows
    ]
