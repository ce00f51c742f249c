"""Dedicated placement where a process does not answer: it is replaced, and holds nobody else up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import psutil

from cos_ray.domain.ids import EntityId
from cos_ray.testing.history import Ending
from tests.cluster.conftest import Cluster
from tests.cluster.ledger import new_command
from tests.cluster.test_passivation import within
from tests.support.journal import until
from tests.support.running_ray import LiveActor

A = EntityId("a")
BOUND = 6
PATIENT = 60.0
"""Seconds: to start what was lost takes many of them on a busy machine."""


@contextlib.contextmanager
def stopped(*actors: LiveActor) -> Iterator[None]:
    """Let these processes stand still; in the end, those that are still there go on."""
    processes = [psutil.Process(actor.pid) for actor in actors]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


async def has_ended(actor: LiveActor) -> bool:
    return not psutil.pid_exists(actor.pid)


async def test_an_entity_whose_process_hangs_goes_on_in_another_one(
    cluster: Cluster, chance: random.Random
) -> None:
    async with cluster.under_load([A, EntityId("b")], 6, chance) as load:
        for _ in range(2):
            await load.go_on(5, A)
            hung = await cluster.one("entity:a")
            with stopped(hung):
                await load.go_on(5, A)
                # Nor does the old one linger: it could not run a command that was answered long ago.
                await until(lambda hung=hung: has_ended(hung), PATIENT)


async def test_a_command_that_outlasts_the_hanging_process_is_run_once(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(A, budget=PATIENT))
    with stopped(await cluster.one("entity:a")):
        assert (await clients.process(new_command(A, budget=PATIENT))).revision == 2
    await cluster.judge(clients)


async def test_an_entity_whose_handler_is_slow_keeps_its_process(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(A, budget=PATIENT))
    before = await cluster.one("entity:a")
    in_hand = asyncio.Event()

    async def slow(command: str) -> None:
        in_hand.set()
        # Longer than it takes until one that hangs is replaced.
        await asyncio.sleep(12)

    cluster.handler.before = slow
    assert (await clients.process(new_command(A, budget=PATIENT))).ending is Ending.DONE
    assert in_hand.is_set()
    assert (await cluster.one("entity:a")).pid == before.pid


async def test_at_the_bound_hanging_entities_hold_up_no_others(cluster: Cluster) -> None:
    within(cluster, most_per_node=BOUND)
    clients = cluster.clients()
    first = [EntityId(f"first-{number}") for number in range(BOUND)]
    for entity_id in first:
        await clients.process(new_command(entity_id, budget=PATIENT))
    # Those used longest ago, and so the first to be asked to leave.
    hung = [await cluster.one(f"entity:{entity_id}") for entity_id in first[:2]]
    with stopped(*hung):
        cold = [EntityId(f"cold-{number}") for number in range(2 * BOUND)]
        for entity_id in cold:
            assert (await clients.process(new_command(entity_id, budget=PATIENT))).ending is Ending.DONE
        for entity_id in first[:2]:
            assert (await clients.process(new_command(entity_id, budget=PATIENT))).revision == 2
        for each in hung:
            await until(lambda each=each: has_ended(each), PATIENT)
    await cluster.judge(clients)


async def test_a_coordinator_that_hangs_is_replaced(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(A, budget=PATIENT))
    with stopped(await cluster.one("process-coordinator")):
        # Those that are awake do not need it.
        assert (await clients.process(new_command(A))).revision == 2
        assert (await clients.process(new_command(EntityId("cold"), budget=PATIENT))).revision == 1
    await cluster.judge(clients)


async def test_a_journal_actor_that_hangs_is_replaced(cluster: Cluster, chance: random.Random) -> None:
    async with cluster.under_load([A, EntityId("b")], 6, chance) as load:
        await load.go_on(10)
        hung = await cluster.one("journal:")
        with stopped(hung):
            await load.go_on(10, A)
            await until(lambda: has_ended(hung), PATIENT)
