"""Two nodes with different addresses: how commands travel from one to the other."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Refused
from cos_ray.system.certificates import TlsFiles
from cos_ray.testing.history import Ending
from tests.cluster.conftest import Cluster, router_of
from tests.cluster.ledger import Clients, new_command
from tests.cluster.test_sharded_losses import with_shard_hosts
from tests.support.authority import Authority
from tests.support.running_ray import RayHead, RayWorkerNode
from tests.support.running_service import eventually

ENTITIES = [EntityId(f"e{number}") for number in range(8)]
ELSEWHERE = "127.0.0.2"


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _address() -> str:
    """Of the node that this is given to."""
    return ray.util.get_node_ip_address()


@pytest.fixture
def worker(ray_head: RayHead) -> Iterator[RayWorkerNode]:
    """A node that has another address than the head, where this test runs."""
    node = RayWorkerNode(ray_head, "worker", address=ELSEWHERE)
    try:
        node.start()
        # The head gives work to it.
        eventually(lambda: ELSEWHERE in ray.get([_address.remote() for _ in range(2)]), 60)
        yield node
    finally:
        node.end()
        eventually(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, 60)


def files_of(folder: Path) -> TlsFiles:
    """Certificates of an authority of their own."""
    folder.mkdir()
    authority = Authority(folder)
    return TlsFiles(*authority.issue("cos-ray.internal"), authority.ca_file)


async def started(cluster: Cluster, placement: str, tls: TlsFiles | None) -> tuple[Cluster, Clients]:
    spec = replace(cluster.spec, tls=tls)
    cluster = replace(cluster, spec=spec, router=router_of(spec, cluster.journal))
    if placement == "sharded":
        cluster = await with_shard_hosts(cluster, 4)
    # Processes take their time to start on a machine that is busy.
    awake = cluster.clients()
    await asyncio.gather(*(awake.process(new_command(entity, budget=60.0)) for entity in ENTITIES))
    assert {call.ending for call in awake.calls} == {Ending.DONE}
    return cluster, awake


def doors_on(node: RayWorkerNode, cluster: Cluster, placement: str) -> dict[str, list[int]]:
    """The ports on which processes of entities listen there, by their addresses; gRPC's own are Ray's."""
    actors = cluster.actors("shard-host:" if placement == "sharded" else "entity:")
    pids = node.pids() & {actor.pid for actor in actors}
    found: dict[str, list[int]] = {}
    for pid in pids:
        for each in psutil.Process(pid).net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                found.setdefault(each.laddr.ip, []).append(each.laddr.port)
    return found


def speaks_tls(port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((ELSEWHERE, port), 2) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("placement", ["dedicated", "sharded"])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
async def test_commands_travel_over_tls_where_it_is_set_and_else_without(
    worker: RayWorkerNode,
    cluster: Cluster,
    chance: random.Random,
    tmp_path: Path,
    placement: str,
    is_encrypted: bool,
) -> None:
    tls = files_of(tmp_path / "ours") if is_encrypted else None
    cluster, awake = await started(cluster, placement, tls)
    async with cluster.under_load(ENTITIES, 6, chance) as load:
        await load.go_on(150)
        there = await asyncio.to_thread(doors_on, worker, cluster, placement)
        assert ELSEWHERE in there, "nothing on the worker is called from here"
        encrypted = [await asyncio.to_thread(speaks_tls, port) for port in there[ELSEWHERE]]
        load.calls += awake.calls
    assert {call.ending for call in load.calls} == {Ending.DONE}
    assert any(encrypted) == is_encrypted


@pytest.mark.parametrize("placement", ["dedicated", "sharded"])
async def test_what_cannot_be_encrypted_is_not_sent(
    worker: RayWorkerNode, cluster: Cluster, tmp_path: Path, placement: str
) -> None:
    cluster, _ = await started(cluster, placement, files_of(tmp_path / "ours"))
    foreign = replace(cluster.spec, tls=files_of(tmp_path / "theirs"))
    clients = [cluster.router, router_of(foreign, cluster.journal)]
    outcomes = [
        await asyncio.gather(*(router.process(new_command(entity, budget=4.0)) for entity in ENTITIES))
        for router in clients
    ]
    ours, theirs = ([each for each in replies if isinstance(each, Refused)] for replies in outcomes)
    assert ours == []
    # Those on the other machine, and not by Ray calls either.
    assert 0 < len(theirs) < len(ENTITIES)
    honest = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
    assert {refused.status.code for refused in theirs} <= honest
    # Once each to wake them.
    assert len(cluster.handler.commands) == 3 * len(ENTITIES) - len(theirs)
