"""Three nodes on this machine, of which one is lost under load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
import ray

from cos_ray.cluster.shard_hosts import ShardHostActors
from cos_ray.domain.ids import EntityId
from tests.cluster.conftest import Cluster
from tests.cluster.test_sharded_losses import sharded  # noqa: F401 - a fixture
from tests.support.journal import until
from tests.support.running_ray import RayHead, RayWorkerNode
from tests.support.running_service import eventually

ENTITIES = [EntityId(f"e{number}") for number in range(40)]


@pytest.fixture
def workers(ray_head: RayHead) -> Iterator[list[RayWorkerNode]]:
    """Two more nodes."""
    nodes = [RayWorkerNode(ray_head, f"worker{number}") for number in (1, 2)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.end()
        # Who counts nodes next is not to count these.
        eventually(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, 60)


async def test_a_lost_node_s_shards_live_on_elsewhere(
    workers: list[RayWorkerNode],
    sharded: Cluster,  # noqa: F811
    chance: random.Random,
) -> None:
    hosts = ShardHostActors(sharded.namespace)
    async with sharded.under_load(ENTITIES, 12, chance) as load:
        # Enough of them for every node to be home to some.
        await hosts.resize(4)
        await load.go_on(100)
        at_home = await asyncio.to_thread(sharded.actors, "shard-host:")
        homes = {node: [each for each in at_home if each.pid in node.pids()] for node in workers}
        lost = max(workers, key=lambda node: len(homes[node]))
        assert homes[lost], "no host came to live on a worker node"
        lost.kill()
        await load.go_on(300)

        async def four_are_there_again() -> bool:
            found = await asyncio.to_thread(sharded.actors, "shard-host:")
            gone = {each.pid for each in homes[lost]}
            return len(found) == 4 and not gone & {each.pid for each in found}

        await until(four_are_there_again, 60)
        await load.go_on(100)
