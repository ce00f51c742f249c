"""The service in a Ray cluster that was there before it, and is after it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
import psutil
import pytest

import cos_ray
from cos_ray.cli.child_process import ChildFailed
from cos_ray.cluster.versions import own_build
from cos_ray.postgres.database import Database
from cos_ray.samples.bank.client import Bank
from cos_ray.system.free_port import free_port
from tests.support.running_deployment import newer_code
from tests.support.running_ray import RayHead, RayWorkerNode, live_actors
from tests.support.running_service import BankHandlers, RunningService, eventually, serve_and_fail


@contextmanager
def running(head: RayHead) -> Iterator[RayHead]:
    """The cluster for as long as it is needed."""
    try:
        head.start()
        yield head
    finally:
        head.end()


@pytest.mark.timeout(240)
async def test_a_cluster_is_joined_left_as_it_was_joined_again_and_shared_with_no_one(
    own_service: RunningService, handlers: BankHandlers, tmp_path: Path
) -> None:
    with running(RayHead()) as head:
        own_service.environment["RAY_ADDRESS"] = head.address

        own_service.start()
        async with grpc.aio.insecure_channel(own_service.address) as channel:
            assert (await Bank(channel).open("joined", "Joined")).revision == 1
        namespaces = {actor.namespace for actor in live_actors(head.dashboard, "entity:")}
        assert namespaces == {"cos-chiefofstate"}
        assert own_service.stop() == 0
        assert own_service.left_behind() == []
        eventually(lambda: live_actors(head.dashboard) == [])
        assert psutil.pid_exists(head.pid)

        own_service.start()
        async with grpc.aio.insecure_channel(own_service.address) as channel:
            assert (await Bank(channel).deposit("joined", 1)).revision == 2
            refuses_a_second(own_service, head, handlers, tmp_path)
            assert (await Bank(channel).deposit("joined", 1)).revision == 3

        # Its launcher killed, what it leaves behind in the cluster is taken over.
        own_service.kill()
        assert own_service.left_behind() == []
        own_service.start()
        async with grpc.aio.insecure_channel(own_service.address) as channel:
            assert (await Bank(channel).deposit("joined", 1)).revision == 4
        assert own_service.stop() == 0
        eventually(lambda: live_actors(head.dashboard) == [])


def refuses_a_second(running: RunningService, head: RayHead, handlers: BankHandlers, tmp_path: Path) -> None:
    """Fail unless neither another launcher of the service nor another service gets into its cluster."""
    for name, reason in (("chiefofstate", f"process {running.pid}"), ("another", "with cos-chiefofstate")):
        failed = serve_and_fail(
            {
                **handlers.settings,
                "RAY_ADDRESS": head.address,
                "COS_SERVICE_NAME": name,
                "COS_ADDRESS": "127.0.0.1",
                "COS_PORT": str(free_port()),
                "COS_HTTP_PORT": str(free_port()),
                "COS_DATA_DIR": str(tmp_path / name),
            }
        )
        assert failed.returncode == 1
        (line,) = failed.stderr.splitlines()
        assert reason in line


@pytest.mark.timeout(240)
async def test_a_cluster_that_wants_a_token_is_joined_with_it_unless_its_nodes_do_not_fit(
    own_service: RunningService, handlers: BankHandlers, postgres_server: Database, tmp_path: Path
) -> None:
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with running(RayHead(tokens)) as head:
        own_service.environment["RAY_ADDRESS"] = head.address
        with pytest.raises(ChildFailed, match="Ray cannot be joined"):
            own_service.start()
        own_service.environment |= tokens
        own_service.start()
        async with grpc.aio.insecure_channel(own_service.address) as channel:
            assert (await Bank(channel).open("trusted", "Trusted")).revision == 1
        assert own_service.stop() == 0
        assert own_service.left_behind() == []
        joining = {**handlers.settings, **tokens, "RAY_ADDRESS": head.address}
        with another_build(head, tmp_path):
            embedded = {**joining, "COS_DATA_DIR": str(tmp_path / "embedded")}
            assert "a cluster of 2 nodes needs a database that all of them reach" in refusal(embedded)
            database = {
                "COS_DB_HOST": postgres_server.host,
                "COS_DB_PORT": str(postgres_server.port),
                "COS_DB_USER": postgres_server.user,
                "COS_DB_NAME": postgres_server.name,
                "COS_DB_PASSWORD": postgres_server.password,
                "COS_DB_SCHEMA": "joining",
            }
            line = refusal({**joining, **database})
            assert f"here it is {own_build()}, but node " in line
            assert line.count(cos_ray.__version__) == 2
            wrong = {**joining, **database, "COS_DB_PASSWORD": "wrong"}
            assert "does not let us in" in refusal(wrong)


@contextmanager
def another_build(head: RayHead, folder: Path) -> Iterator[None]:
    """A node more, with other code."""
    node = RayWorkerNode(head, "other", {"PYTHONPATH": str(newer_code(folder / "newer"))})
    try:
        node.start()
        yield
    finally:
        node.end()


def refusal(settings: Mapping[str, str]) -> str:
    """The one line by which `cos-ray serve` says why it does not start."""
    failed = serve_and_fail(settings)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    return line
