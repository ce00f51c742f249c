"""What the write side loses and gets back: actors killed under load, copies, and those that sleep."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import replace

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.state import list_actors

from cos_ray.bootstrap.entity import build_entity
from cos_ray.cluster.entity_actor import EntityActor
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Accepted, Command, Reply, TryElsewhere
from cos_ray.testing.history import Ending
from cos_ray.transport.lazy_pickle import pickle_lazily
from tests.cluster.conftest import Cluster
from tests.cluster.ledger import Clients, new_command, text_of
from tests.support.journal import until

NEW = EntityId("new")
FOUR = [EntityId(f"e{number}") for number in range(4)]


async def test_a_hundred_first_commands_start_one_actor(cluster: Cluster) -> None:
    # Of two ingress replicas.
    calls = cluster.clients(), cluster.clients(cluster.new_router())
    everything = [clients.process(new_command(NEW)) for clients in calls for _ in range(50)]
    answered = await asyncio.gather(*everything)
    assert {call.ending for call in answered} == {Ending.DONE}
    calls[0].calls += calls[1].calls
    await cluster.judge(calls[0])
    started = [
        actor
        for actor in list_actors(
            address=cluster.head.dashboard, filters=[("name", "=", "entity:new")], detail=True
        )
        if actor.ray_namespace == cluster.namespace
    ]
    assert [(actor.state, actor.num_restarts) for actor in started] == [("ALIVE", 0)]


async def test_killed_under_load_entities_lose_nothing(cluster: Cluster, chance: random.Random) -> None:
    async with cluster.under_load(FOUR, 12, chance) as load:
        await load.go_on(20)
        for _ in range(8):
            victim = chance.choice(await asyncio.to_thread(cluster.actors, "entity:"))
            victim.kill()
            await load.go_on(3, cluster.entity_of(victim))


async def test_with_the_journal_actor_killed_under_load_nothing_is_lost(
    cluster: Cluster, chance: random.Random
) -> None:
    async with cluster.under_load(FOUR, 12, chance) as load:
        await load.go_on(20)
        for _ in range(5):
            (await cluster.one("journal:")).kill()
            await load.go_on(30)


async def test_of_two_copies_in_use_nothing_is_lost_or_doubled(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(NEW))
    rivals = Rivals(cluster)
    others = Clients(rivals.process, cluster.router.state)
    others.calls = clients.calls
    for _ in range(20):
        both = [one.process(new_command(NEW, 2)) for one in (clients, others) for _ in range(5)]
        await asyncio.gather(*both)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await cluster.judge(clients)


async def test_a_copy_that_keeps_losing_leaves_and_its_command_is_run_by_the_other(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(NEW))
    rivals = Rivals(cluster)
    rival = rivals.start()
    others = Clients(rivals.process, cluster.router.state)
    others.calls = clients.calls
    contested = new_command(NEW)
    name = text_of(contested)
    times = 0

    async def let_the_rival_lose(command: str) -> None:
        nonlocal times
        if command == name and times < 2:
            times += 1
            await clients.process(new_command(NEW))

    cluster.handler.before = let_the_rival_lose
    assert (await others.process(contested)).revision == 4
    assert rivals.given_back == 1
    await until(lambda: gone(rival))
    await cluster.judge(clients)


async def test_an_append_that_slept_through_its_command_is_refused(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(NEW))
    old = await cluster.one("entity:new")
    command = new_command(NEW, 2, budget=60.0)
    in_hand, go_on = asyncio.Event(), asyncio.Event()

    async def hold_the_first(name: str) -> None:
        if name == text_of(command) and not in_hand.is_set():
            in_hand.set()
            await go_on.wait()

    cluster.handler.before = hold_the_first
    handle = ray.get_actor(old.name, namespace=cluster.namespace)
    asleep = asyncio.ensure_future(_asked(handle, command))
    await asyncio.wait_for(in_hand.wait(), 20)
    os.kill(old.pid, signal.SIGSTOP)
    try:
        # The handler has answered; what the old copy makes of it, it will make later.
        go_on.set()
        fresh = Rivals(cluster)
        again = await Clients(fresh.process, cluster.router.state).process(
            replace(command, maybe_stored=True)
        )
        assert (again.ending, again.revision) == (Ending.DONE, 3)
        others = Clients(fresh.process, cluster.router.state)
        others.calls = [*clients.calls, again]
        for _ in range(5):
            await others.process(new_command(NEW))
    finally:
        os.kill(old.pid, signal.SIGCONT)
    reply = await asyncio.wait_for(asleep, 20)
    # Not stored twice, and answered as the copy that stored it did.
    assert isinstance(reply, Accepted)
    assert reply.state.meta.revision == 3
    assert cluster.handler.commands.count(text_of(command)) == 2
    await cluster.judge(others)
    # The old copy has learned where the entity stands, and may go on.
    awake = Clients(cluster.router.process, cluster.router.state)
    awake.calls = others.calls
    assert (await awake.process(new_command(NEW))).revision == 9
    await cluster.judge(awake)


async def test_a_sleeping_journal_actor_holds_nobody_up_longer_than_its_command(cluster: Cluster) -> None:
    clients = cluster.clients()
    await clients.process(new_command(NEW))
    journal = await cluster.one("journal:")
    os.kill(journal.pid, signal.SIGSTOP)
    try:
        late = [clients.process(new_command(entity_id, budget=1.5)) for entity_id in (NEW, FOUR[0])]
        assert [call.ending for call in await asyncio.gather(*late)] == [Ending.UNKNOWN] * 2
    finally:
        os.kill(journal.pid, signal.SIGCONT)
    done = await asyncio.gather(*(clients.process(new_command(each)) for each in (NEW, FOUR[0])))
    assert [call.ending for call in done] == [Ending.DONE] * 2
    await cluster.judge(clients)


class Rivals:
    """
    A second live copy of an entity, as there is one when a node is cut off and comes back.

    Commands go to it as long as it stays; what it gives back goes to the other, as a router would.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rival: ray.actor.ActorHandle | None = None
        self.given_back = 0

    def start(self) -> ray.actor.ActorHandle:
        """Start it, under another name."""
        self._rival = EntityActor.options(name="rival", namespace=self._cluster.namespace).remote(
            NEW, pickle_lazily(build_entity, self._cluster.spec)
        )
        return self._rival

    async def process(self, command: Command) -> Reply:
        """Ask the rival, or whoever there is without it."""
        rival = self._rival or self.start()
        try:
            reply: Reply = await rival.process.remote(command)
        except RayError:
            self.given_back += 1
            return await self._cluster.router.process(replace(command, maybe_stored=True))
        if isinstance(reply, TryElsewhere):
            self.given_back += 1
            again = replace(command, maybe_stored=command.maybe_stored or reply.maybe_stored)
            return await self._cluster.router.process(again)
        return reply


async def _asked(handle: ray.actor.ActorHandle, command: Command) -> Reply:
    reply: Reply = await handle.process.remote(command)
    return reply


async def gone(handle: ray.actor.ActorHandle) -> bool:
    try:
        await handle.pid.remote()
    except ActorDiedError:
        return True
    except RayError:
        return False
    return False
