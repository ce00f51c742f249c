"""Dedicated placement within bounds: too many awake entities, resting ones, a coordinator that dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Accepted, Refused
from cos_ray.domain.passivation import ProcessLimits
from cos_ray.testing.history import Ending
from tests.cluster.conftest import Cluster
from tests.cluster.ledger import new_command
from tests.support.journal import until

BOUND = 2
PATIENT = 60.0
"""Seconds: to wake an entity takes many of them on a busy machine."""
MANY = [EntityId(f"many-{number}") for number in range(4)]
A, B = EntityId("a"), EntityId("b")


def within(cluster: Cluster, **limits: float) -> None:
    """Give the cluster these limits, before anything has been asked of it."""
    cluster.spec = replace(cluster.spec, limits=ProcessLimits(**limits))  # type: ignore[arg-type]
    cluster.router = cluster.new_router()


async def awake(cluster: Cluster) -> list[str]:
    found = await asyncio.to_thread(cluster.actors, "entity:")
    return sorted(actor.name.removeprefix("entity:") for actor in found)


async def test_with_more_entities_than_the_bound_nothing_is_lost_or_doubled(
    cluster: Cluster, chance: random.Random
) -> None:
    within(cluster, most_per_node=BOUND)
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(len(await awake(cluster)))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    async with cluster.under_load(MANY, 4, chance) as load:
        for entity_id in MANY:
            await load.go_on(1, entity_id)
    watching.cancel()
    assert max(seen) == BOUND
    endings = Counter(call.ending for call in load.calls)
    assert endings[Ending.DONE] > len(MANY)


async def test_an_idle_entity_is_passivated_and_wakes_where_it_was(cluster: Cluster) -> None:
    within(cluster, idle_after=1.0)
    clients = cluster.clients()
    await clients.process(new_command(A, 2, PATIENT))

    async def asleep() -> bool:
        return await awake(cluster) == []

    await until(asleep, PATIENT)
    assert (await clients.process(new_command(A, 1, PATIENT))).revision == 3
    await cluster.judge(clients)


async def test_while_there_is_no_room_commands_wait_and_are_then_turned_away(
    cluster: Cluster,
) -> None:
    within(cluster, most_per_node=1)
    clients = cluster.clients()
    await clients.process(new_command(A, 1, PATIENT))
    in_hand, go_on = asyncio.Event(), asyncio.Event()

    async def hold(command: str) -> None:
        in_hand.set()
        await go_on.wait()

    cluster.handler.before = hold
    busy = asyncio.ensure_future(clients.process(new_command(A, budget=PATIENT)))
    await asyncio.wait_for(in_hand.wait(), PATIENT)
    reply = await cluster.router.process(new_command(B, budget=3.0))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.RESOURCE_EXHAUSTED
    patient = [
        asyncio.ensure_future(cluster.router.process(new_command(B, budget=PATIENT))) for _ in range(3)
    ]
    cluster.handler.before = None
    go_on.set()
    replies = await asyncio.gather(*patient)
    revisions = [reply.state.meta.revision for reply in replies if isinstance(reply, Accepted)]
    assert revisions == [1, 2, 3]
    assert (await busy).ending is Ending.DONE
    assert await awake(cluster) == [B]


async def test_with_the_coordinator_killed_under_load_the_bound_holds_and_nothing_is_lost(
    cluster: Cluster, chance: random.Random
) -> None:
    within(cluster, most_per_node=BOUND)
    async with cluster.under_load(MANY, 3, chance) as load:
        await load.go_on(3)
        (await cluster.one("process-coordinator")).kill()
        for entity_id in MANY:
            await load.go_on(1, entity_id)
        assert len(await awake(cluster)) <= BOUND
