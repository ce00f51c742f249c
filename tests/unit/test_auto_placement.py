"""
Entities move to processes of their own and back, whatever becomes of those: commands find their way.

All processes are in this event loop and share a journal in memory; see `tests.support.auto`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import BARRED_FOR, BUSY, LATELY, Why
from cos_ray.placement import auto_region, shard_coordinator, shard_host
from cos_ray.system.clock import SystemClock
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.history import Ending
from cos_ray.testing.journal import MemoryJournal
from cos_ray.transport import silence
from cos_ray.writeside.router import Router
from tests.support.auto import AutoCluster
from tests.unit.test_sharded_placement import ENTITIES, Clients, NamingHandler, judge, until

ONE = ENTITIES[0]


class AutoClients(Clients):
    """Clients of one ingress replica that knows of entities' own processes."""

    def __init__(self, cluster: AutoCluster) -> None:
        super().__init__(cluster)
        self.auto = cluster.auto_entities()
        self.router = Router(self.auto, cluster.journal, SystemClock())

    def run(self, stop: asyncio.Event, seed: int, entities: list[EntityId]) -> asyncio.Task[None]:
        """Send one command after the other."""

        async def load() -> None:
            chance = random.Random(seed)
            while not stop.is_set():
                await self.send(chance.choice(entities), chance.choice([0, 1, 2]))
                await asyncio.sleep(0)

        return asyncio.ensure_future(load())


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one is waited for as long as between processes."""
    monkeypatch.setattr(shard_coordinator, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(shard_host, "RELEASED_WITHIN", 0.5)
    monkeypatch.setattr(auto_region, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(auto_region, "SILENT_FOR", 0.05)
    monkeypatch.setattr(silence, "LOOK_EVERY", 0.05)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cluster(clock: ManualClock) -> AsyncIterator[AutoCluster]:
    cluster = AutoCluster(MemoryJournal(), NamingHandler(), clock)
    running = asyncio.ensure_future(cluster.coordinator.run())
    await cluster.coordinator.assignment()
    yield cluster
    running.cancel()


def handler_of(cluster: AutoCluster) -> NamingHandler:
    assert isinstance(cluster.handler, NamingHandler)
    return cluster.handler


async def send_many(clients: AutoClients, number: int = BUSY, entity_id: EntityId = ONE) -> None:
    for _ in range(number):
        await clients.send(entity_id)


async def test_an_entity_that_stays_busy_gets_a_process_and_lives_there(cluster: AutoCluster) -> None:
    clients = AutoClients(cluster)
    await send_many(clients)
    await cluster.look()
    await until(lambda: ONE in cluster.promotions_of(ONE).own)
    await send_many(clients, 5)
    assert cluster.owned[ONE].resident.is_leaving is False
    assert all(len(process.live) == 0 for process in cluster.processes.values())
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_entities_used_once_get_no_processes_however_many_they_are(cluster: AutoCluster) -> None:
    clients = AutoClients(cluster)
    ids = [EntityId(f"once-{number}") for number in range(500)]
    for start in range(0, len(ids), 50):
        await asyncio.gather(*(clients.send(each) for each in ids[start : start + 50]))
        await cluster.look()
    assert cluster.starts == []
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    reasons = [cluster.promotions_of(each).reasons()[Why.SELDOM] for each in ids[:50]]
    assert min(reasons) > 100


async def test_a_process_that_is_slow_to_start_holds_no_command_up(cluster: AutoCluster) -> None:
    clients = AutoClients(cluster)
    cluster.may_start.clear()
    await send_many(clients)
    await cluster.look()
    await until(lambda: cluster.starts == [ONE])
    await send_many(clients, 20)
    assert cluster.promotions_of(ONE).reasons()[Why.SELDOM] == 1
    await cluster.look()
    assert cluster.promotions_of(ONE).reasons()[Why.STARTING] == 1
    assert cluster.starts == [ONE]
    assert {call.ending for call in clients.calls} == {Ending.DONE}


async def test_what_is_in_hand_ends_before_the_entity_moves_and_the_rest_follows(
    cluster: AutoCluster,
) -> None:
    clients = AutoClients(cluster)
    await clients.send(ONE)
    handler_of(cluster).gate.clear()
    first = asyncio.ensure_future(clients.send(ONE))
    await until(lambda: len(handler_of(cluster).commands) == 2)
    moving = asyncio.ensure_future(cluster.move(ONE))
    await until(lambda: ONE in cluster.owned)
    second = asyncio.ensure_future(clients.send(ONE))
    for _ in range(20):
        await asyncio.sleep(0.001)
    # Held back at the host: two handlers never run for one entity.
    assert len(handler_of(cluster).commands) == 2
    handler_of(cluster).gate.set()
    await asyncio.gather(first, second, moving)
    assert [call.revision for call in clients.calls] == [1, 2, 3]
    await judge(cluster, clients)


async def test_entities_move_under_load_of_two_replicas_and_no_command_fails(cluster: AutoCluster) -> None:
    clients, others = AutoClients(cluster), AutoClients(cluster)
    stop = asyncio.Event()
    running = [one.run(stop, seed, ENTITIES[:6]) for one in (clients, others) for seed in range(8)]
    for entity_id in ENTITIES[:6]:
        done = len(clients.calls)
        await until(lambda done=done: len(clients.calls) > done + 20)
        await cluster.move(entity_id)
    await until(lambda: len(cluster.owned) == 6)
    stop.set()
    await asyncio.gather(*running)
    assert {call.ending for call in (*clients.calls, *others.calls)} == {Ending.DONE}
    await judge(cluster, clients, others)


async def test_when_its_process_is_killed_an_entity_goes_on_in_its_shard_host(cluster: AutoCluster) -> None:
    clients, stop = AutoClients(cluster), asyncio.Event()
    running = [clients.run(stop, seed, [ONE]) for seed in range(8)]
    for _ in range(5):
        await cluster.move(ONE)
        done = len(clients.calls)
        await until(lambda done=done: len(clients.calls) > done + 20)
        cluster.owned[ONE].kill()
        done = len(clients.calls)
        await until(lambda done=done: len(clients.calls) > done + 20)
        assert ONE not in cluster.owned
    stop.set()
    await asyncio.gather(*running)
    assert {call.ending for call in clients.calls if call.events} == {Ending.DONE}
    await judge(cluster, clients)


async def test_one_that_has_lost_its_process_gets_another_only_after_a_while(
    cluster: AutoCluster, clock: ManualClock
) -> None:
    clients = AutoClients(cluster)
    await cluster.move(ONE)
    cluster.owned[ONE].kill()
    cluster.starts.clear()
    await send_many(clients)
    await cluster.look()
    assert cluster.starts == []
    assert cluster.promotions_of(ONE).reasons()[Why.BARRED] == 1
    clock.advance(BARRED_FOR)
    await send_many(clients)
    await cluster.look()
    await until(lambda: cluster.starts == [ONE])


@pytest.mark.parametrize("moment", ["before it has moved", "after it has moved"])
async def test_a_process_that_freezes_is_given_up_and_its_commands_are_done_elsewhere(
    cluster: AutoCluster, moment: str
) -> None:
    clients = AutoClients(cluster)
    await clients.send(ONE)
    if moment == "before it has moved":
        handler_of(cluster).gate.clear()
        first = asyncio.ensure_future(clients.send(ONE))
        await until(lambda: len(handler_of(cluster).commands) == 2)
        moving = asyncio.ensure_future(cluster.move(ONE))
        await until(lambda: ONE in cluster.owned)
        frozen = cluster.owned[ONE]
        frozen.is_awake.clear()
        handler_of(cluster).gate.set()
        await asyncio.gather(first, moving)
    else:
        await cluster.move(ONE)
        await clients.send(ONE)
        frozen = cluster.owned[ONE]
        frozen.is_awake.clear()
    await asyncio.gather(*(clients.send(ONE) for _ in range(5)))
    assert frozen.is_gone.is_set()
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_a_process_that_goes_on_though_it_was_given_up_stores_nothing_behind_the_other(
    cluster: AutoCluster,
) -> None:
    clients, others = AutoClients(cluster), AutoClients(cluster)
    cluster.ends_lazily = True
    await cluster.move(ONE)
    # The second replica goes on with the process, the first is told that the entity lives at its host.
    await others.send(ONE)
    cluster.promotions_of(ONE).lost(ONE, cluster.owned[ONE].way)
    stop = asyncio.Event()
    running = [one.run(stop, seed, [ONE]) for one in (clients, others) for seed in range(4)]
    await until(lambda: min(len(clients.calls), len(others.calls)) > 30)
    stop.set()
    await asyncio.gather(*running)
    assert {call.ending for call in (*clients.calls, *others.calls)} == {Ending.DONE}
    await judge(cluster, clients, others)


async def test_hosts_are_added_removed_and_killed_while_entities_have_processes(
    cluster: AutoCluster,
) -> None:
    clients, stop = AutoClients(cluster), asyncio.Event()
    running = [clients.run(stop, seed, ENTITIES) for seed in range(10)]
    for seats in (4, 1, 3):
        for entity_id in ENTITIES[::2]:
            if entity_id not in cluster.owned:
                await cluster.move(entity_id)
        await cluster.coordinator.resize(seats)
        done = len(clients.calls)
        await until(lambda done=done: len(clients.calls) > done + 50)
        await cluster.coordinator.look_after()
    stop.set()
    await asyncio.gather(*running)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_a_host_that_is_started_anew_learns_who_has_a_process(cluster: AutoCluster) -> None:
    clients, others = AutoClients(cluster), AutoClients(cluster)
    await cluster.move(ONE)
    host = next(host for host, each in cluster.processes.items() if each.host.is_home_of(ONE))
    cluster.kill(host)
    await cluster.coordinator.look_after()
    # It knows of nothing at first, and is home to the entity as well; the journal sees to the rest.
    await asyncio.gather(*(one.send(ONE) for one in (clients, others) for _ in range(5)))
    await cluster.look()
    await until(lambda: ONE in cluster.promotions_of(ONE).own)
    commands = len(handler_of(cluster).commands)
    await send_many(clients, 5)
    assert len(handler_of(cluster).commands) == commands + 5
    assert {call.ending for call in (*clients.calls, *others.calls)} == {Ending.DONE}
    await judge(cluster, clients, others)


async def test_while_the_cpus_are_busy_processes_are_given_back_and_no_command_fails(
    cluster: AutoCluster,
) -> None:
    clients, stop = AutoClients(cluster), asyncio.Event()
    running = [clients.run(stop, seed, ENTITIES) for seed in range(10)]
    for entity_id in ENTITIES[:4]:
        await cluster.move(entity_id)
    cluster.is_saturated = True

    async def look() -> bool:
        await cluster.look()
        return not cluster.owned

    while not await look():
        await asyncio.sleep(0.001)
    done = len(clients.calls)
    await until(lambda: len(clients.calls) > done + 50)
    await cluster.look()
    # Busy as they are: nobody is given a process.
    assert not cluster.owned
    reasons = [
        promotions.reasons()
        for promotions in {id(p): p for p in map(cluster.promotions_of, ENTITIES)}.values()
    ]
    assert sum(each[Why.CPU] + each[Why.BARRED] for each in reasons) > 0
    stop.set()
    await asyncio.gather(*running)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_beyond_the_bound_entities_live_in_their_shard_hosts(cluster: AutoCluster) -> None:
    clients, cluster.most = AutoClients(cluster), 3
    for _ in range(BUSY):
        await asyncio.gather(*(clients.send(each) for each in ENTITIES))
    for _ in range(4):
        await cluster.look()
        await asyncio.sleep(0.01)
    assert len(cluster.owned) == 3
    promotions = {id(each): each for each in map(cluster.promotions_of, ENTITIES)}.values()
    assert sum(each.reasons()[Why.NO_ROOM] for each in promotions) == len(ENTITIES) - 3
    await asyncio.gather(*(clients.send(each) for each in ENTITIES))
    assert {call.ending for call in clients.calls} == {Ending.DONE}


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_processes_the_history_is_what_clients_were_told(
    cluster: AutoCluster, clock: ManualClock, seed: int
) -> None:
    chance = random.Random(seed)
    clients, others, stop = AutoClients(cluster), AutoClients(cluster), asyncio.Event()
    running = [one.run(stop, chance.randrange(1000), ENTITIES) for one in (clients, others) for _ in range(5)]
    for _ in range(40):
        await asyncio.sleep(chance.uniform(0, 0.02))
        cluster.ends_lazily = chance.random() < 0.2
        match chance.randrange(6):
            case 0 | 1:
                await cluster.move(chance.choice(ENTITIES))
            case 2:
                cluster.lose_one(chance)
            case 3:
                entity_id = chance.choice(ENTITIES)
                if entity_id in cluster.owned:
                    cluster.promotions_of(entity_id).lost(entity_id, cluster.owned[entity_id].way)
            case 4:
                await cluster.coordinator.resize(chance.choice([1, 2, 3]))
            case 5:
                clock.advance(chance.choice([0.5, LATELY]))
                await cluster.look()
    cluster.thaw()
    stop.set()
    await asyncio.gather(*running)
    await judge(cluster, clients, others)


async def test_one_whose_process_left_in_good_order_gets_another_as_soon_as_it_is_busy(
    cluster: AutoCluster,
) -> None:
    clients = AutoClients(cluster)
    await cluster.move(ONE)
    await cluster.processes_of_entities.end(cluster.owned[ONE])
    cluster.starts.clear()
    await send_many(clients)
    await cluster.look()
    await until(lambda: cluster.starts == [ONE])


async def test_a_process_that_is_still_ending_is_not_taken_for_one_to_live_in(
    cluster: AutoCluster, clock: ManualClock
) -> None:
    clients = AutoClients(cluster)
    await cluster.move(ONE)
    cluster.may_end.clear()
    promotions = cluster.promotions_of(ONE)
    promotions.lost(ONE, cluster.owned[ONE].way)
    clock.advance(BARRED_FOR)
    cluster.starts.clear()
    await send_many(clients)
    await cluster.look()
    await asyncio.sleep(0.01)
    assert (cluster.starts, list(promotions.own)) == ([], [])
    cluster.may_end.set()
    await until(lambda: ONE not in cluster.owned)
    await cluster.look()
    await until(lambda: cluster.starts == [ONE])
    assert {call.ending for call in clients.calls} == {Ending.DONE}


async def test_who_goes_while_an_entity_moves_has_nothing_run(cluster: AutoCluster) -> None:
    clients = AutoClients(cluster)
    await clients.send(ONE)
    handler_of(cluster).gate.clear()
    first = asyncio.ensure_future(clients.send(ONE))
    await until(lambda: len(handler_of(cluster).commands) == 2)
    moving = asyncio.ensure_future(cluster.move(ONE))
    await until(lambda: ONE in cluster.owned)
    second = asyncio.ensure_future(clients.send(ONE))
    await until(lambda: len(cluster.promotions_of(ONE)._held) == 1)
    second.cancel()
    await until(lambda: not cluster.promotions_of(ONE)._held)
    # The entity lives here after all: even so, nothing is run for who has gone.
    cluster.owned[ONE].kill()
    handler_of(cluster).gate.set()
    await asyncio.gather(first, moving)
    await until(lambda: all(process.server.in_progress == 0 for process in cluster.processes.values()))
    assert len(handler_of(cluster).commands) == 2
    await judge(cluster, clients)
