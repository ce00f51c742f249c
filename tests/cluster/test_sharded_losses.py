"""Sharded placement over real processes: hosts killed, put to sleep, added and removed under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cos_ray.bootstrap.shard_host import ShardCoordinatorSpec, build_shard_coordinator, build_shard_host
from cos_ray.cluster.shard_coordinator_actor import start_shard_coordinator
from cos_ray.cluster.shard_hosts import ShardHostActors
from cos_ray.domain.errors import EntityLost
from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import LiveLimits
from cos_ray.domain.sharding import shard_of
from cos_ray.testing.history import Ending
from cos_ray.transport.lazy_pickle import pickle_lazily
from tests.cluster.conftest import LOGS, Cluster, router_of
from tests.cluster.ledger import new_command, text_of
from tests.support.journal import until
from tests.support.running_ray import LiveActor

ENTITIES = [EntityId(f"e{number}") for number in range(40)]


@pytest.fixture
async def sharded(cluster: Cluster) -> Cluster:
    """Two shard hosts, started."""
    return await with_shard_hosts(cluster)


async def with_shard_hosts(cluster: Cluster, seats: int = 2) -> Cluster:
    """So many shard hosts, started."""
    spec = replace(cluster.spec, is_sharded=True)
    build_host = pickle_lazily(build_shard_host, spec, LiveLimits(idle_after=1.0, entities=20))
    coordinator = ShardCoordinatorSpec(cluster.namespace, spec.shards, seats, build_host, LOGS, spec.tls)
    await asyncio.to_thread(
        start_shard_coordinator, cluster.namespace, pickle_lazily(build_shard_coordinator, coordinator)
    )
    router = router_of(spec, cluster.journal)
    return replace(cluster, spec=spec, router=router)


async def test_killed_hosts_and_a_killed_coordinator_lose_nothing(
    sharded: Cluster, chance: random.Random
) -> None:
    async with sharded.under_load(ENTITIES, 12, chance) as load:
        await load.go_on(50)
        for beginning in ("shard-host:", "shard-host:", "shard-coordinator", "shard-host:", "shard-host:"):
            victim = chance.choice(await asyncio.to_thread(sharded.actors, beginning))
            victim.kill()
            await load.go_on(100)
    assert len(await asyncio.to_thread(sharded.actors, "shard-host:")) == 2
    # Of a command without events nobody can say whether the host that was killed had events for it.
    assert {call.ending for call in load.calls if call.events} == {Ending.DONE}


async def test_the_number_of_hosts_an_operator_asked_for_outlives_the_coordinator(sharded: Cluster) -> None:
    hosts = ShardHostActors(sharded.namespace)
    before = await hosts.resize(3)
    (await sharded.one("shard-coordinator")).kill()

    async def another_coordinator_speaks() -> bool:
        try:
            return (await hosts.assignment()).epoch > before.epoch
        except EntityLost:
            return False

    await until(another_coordinator_speaks, 60)
    assert len((await hosts.assignment()).hosts) == 3


async def test_hosts_come_and_go_under_load_and_no_command_fails(
    sharded: Cluster, chance: random.Random
) -> None:
    hosts = ShardHostActors(sharded.namespace)
    async with sharded.under_load(ENTITIES, 12, chance) as load:
        await load.go_on(50)
        for seats in (4, 1, 3):
            assignment = await hosts.resize(seats)
            assert len(assignment.hosts) == seats
            await load.go_on(100)
    assert {call.ending for call in load.calls} == {Ending.DONE}

    async def three_are_left() -> bool:
        return len(await asyncio.to_thread(sharded.actors, "shard-host:")) == 3

    await until(three_are_left)
    status = [await hosts.status(host) for host in assignment.hosts]
    assert sum(each.shards for each in status) == sharded.spec.shards
    assert sum(each.in_progress for each in status) == 0
    assert all(each.entities <= 20 for each in status)
    assert sum(each.passivations for each in status) > 0


async def test_a_host_that_sleeps_is_replaced_and_on_waking_stores_nothing_and_leaves(
    sharded: Cluster, chance: random.Random
) -> None:
    clients = sharded.clients()
    await asyncio.gather(*(clients.process(new_command(entity)) for entity in ENTITIES))
    sleeper = chance.choice(await asyncio.to_thread(sharded.actors, "shard-host:"))
    async with sharded.under_load(ENTITIES, 12, chance) as load:
        load.calls += clients.calls
        await load.go_on(20)
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            # Twelve clients: they all wait for the sleeper until another has taken its place.
            await load.go_on(200)
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
        await load.go_on(50)

        async def it_has_left() -> bool:
            hosts = await asyncio.to_thread(sharded.actors, "shard-host:")
            return len(hosts) == 2 and sleeper.name not in [host.name for host in hosts]

        await until(it_has_left)
        await load.go_on(50)


async def test_a_command_that_outlasts_the_release_of_its_shard_is_in_all_answers_after_its_own(
    sharded: Cluster,
) -> None:
    clients, hosts, go_on = sharded.clients(), ShardHostActors(sharded.namespace), asyncio.Event()
    assignment = await hosts.resize(2)
    entity = next(
        each
        for each in ENTITIES
        if assignment.host_of(shard_of(each, assignment.shards)) == assignment.hosts[1]
    )
    slow = new_command(entity, 3, budget=60.0)

    async def before(command: str) -> None:
        if command == text_of(slow):
            await go_on.wait()

    sharded.handler.before = before
    begun = asyncio.create_task(clients.process(slow))

    async def it_runs() -> bool:
        return text_of(slow) in sharded.handler.commands

    await until(it_runs)
    epoch = (await hosts.resize(1)).epoch

    async def the_old_home_has_heard_of_it() -> bool:
        return (await hosts.tell(assignment.hosts[1], None)).epoch >= epoch

    await until(the_old_home_has_heard_of_it)
    # Answered by the new home, after it has waited for the old one as long as it does.
    no_op = await clients.process(new_command(entity, 0, budget=30.0))
    assert (no_op.ending, no_op.revision) == (Ending.DONE, 0)
    assert not begun.done()
    go_on.set()
    assert (await begun).revision == 3
    again = await clients.process(new_command(entity, 0, budget=30.0))
    assert (again.ending, again.revision) == (Ending.DONE, 3)
    await sharded.judge(clients)


async def test_a_command_that_was_answered_while_its_host_was_frozen_is_not_run_on_waking(
    sharded: Cluster,
) -> None:
    await answered_while_frozen(sharded, "shard-host:")


async def test_a_command_that_was_answered_while_its_entity_was_frozen_is_not_run_on_waking(
    cluster: Cluster,
) -> None:
    await answered_while_frozen(cluster, "entity:")


async def answered_while_frozen(cluster: Cluster, beginning: str) -> None:
    clients, entity = cluster.clients(), ENTITIES[0]
    for _ in range(3):
        await clients.process(new_command(entity))
    homes = await asyncio.to_thread(cluster.actors, beginning)
    late = new_command(entity, 1, budget=1.0)
    for home in homes:
        os.kill(home.pid, signal.SIGSTOP)
    try:
        await until(lambda: all_stopped(homes))
        assert (await clients.process(late)).ending is Ending.UNKNOWN
    finally:
        for home in homes:
            os.kill(home.pid, signal.SIGCONT)
    # It comes after the late one, on the same way.
    after = await clients.process(new_command(entity))
    assert (after.ending, after.revision) == (Ending.DONE, 4)
    assert text_of(late) not in cluster.handler.commands
    await cluster.judge(clients)


async def all_stopped(processes: list[LiveActor]) -> bool:
    """Whether all stand still: a signal takes its time, and a thread may still be at work."""
    return {state for process in processes for state in thread_states(process.pid)} <= {"T"}


def thread_states(pid: int) -> list[str]:
    stats = [
        Path(f"/proc/{pid}/task/{thread.id}/stat").read_text() for thread in psutil.Process(pid).threads()
    ]
    return [stat.rpartition(")")[2].split()[0] for stat in stats]
