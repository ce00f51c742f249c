"""The service in a Ray cluster that was there before it, and is after it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
import psutil
import pytest

from cos_ray.bootstrap.listening import free_port
from cos_ray.cli.child_process import ChildFailed
from cos_ray.samples.bank.client import Bank
from tests.running_ray import RayHead, live_actors
from tests.running_service import BankHandlers, RunningService, eventually, serve_and_fail


@contextmanager
def running(head: RayHead) -> Iterator[RayHead]:
    """The cluster for as long as it is needed."""
    try:
        head.start()
        yield head
    finally:
        head.end()


@pytest.fixture(scope="module")
def ray_head() -> Iterator[RayHead]:
    """A cluster to join."""
    with running(RayHead()) as head:
        yield head


@pytest.fixture
def joining(own_service: RunningService, ray_head: RayHead) -> RunningService:
    """A service of that cluster, not started yet."""
    own_service.environment["RAY_ADDRESS"] = ray_head.address
    return own_service


async def test_a_joined_cluster_is_left_as_it_was_and_can_be_joined_again(
    joining: RunningService, ray_head: RayHead
) -> None:
    for revision in (1, 2):
        joining.start()
        async with grpc.aio.insecure_channel(joining.address) as channel:
            bank = Bank(channel)
            if revision == 1:
                await bank.open("joined", "Joined")
            else:
                await bank.deposit("joined", 1)
            assert (await bank.account("joined")).revision == revision
        assert {actor.namespace for actor in live_actors(ray_head.dashboard, "entity:")} == {
            "cos-chiefofstate"
        }
        assert joining.stop() == 0
        assert joining.left_behind() == []
        eventually(lambda: live_actors(ray_head.dashboard) == [])
        assert [line for line in ray_head.processes() if "haproxy" in line] == []
    assert psutil.pid_exists(ray_head.pid)


async def test_a_service_whose_launcher_was_killed_is_taken_over(
    joining: RunningService, ray_head: RayHead
) -> None:
    joining.start()
    async with grpc.aio.insecure_channel(joining.address) as channel:
        await Bank(channel).open("orphan", "Orphan")
    joining.kill()
    assert joining.left_behind() == []
    joining.start()
    async with grpc.aio.insecure_channel(joining.address) as channel:
        assert (await Bank(channel).deposit("orphan", 1)).revision == 2
    assert joining.stop() == 0
    eventually(lambda: live_actors(ray_head.dashboard) == [])


async def test_a_cluster_with_a_service_in_it_takes_no_second_one(
    joining: RunningService, ray_head: RayHead, handlers: BankHandlers, tmp_path: Path
) -> None:
    joining.start()
    for name, reason in (("chiefofstate", f"process {joining.pid}"), ("another", "with cos-chiefofstate")):
        failed = serve_and_fail(
            {
                **handlers.settings,
                "RAY_ADDRESS": ray_head.address,
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
    async with grpc.aio.insecure_channel(joining.address) as channel:
        assert (await Bank(channel).open("undisturbed", "Undisturbed")).revision == 1
    assert joining.stop() == 0


async def test_a_cluster_that_wants_a_token_is_joined_with_it(own_service: RunningService) -> None:
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
