"""
Shard hosts come, go, die and sleep: commands find their way, and the history is what clients were told.

All hosts are in this event loop and share a journal in memory; see `tests.support.sharded`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count

import pytest

from cos_ray.domain.decisions import decide
from cos_ray.domain.errors import OUT_OF_TIME, OUTCOME_UNKNOWN
from cos_ray.domain.ids import CommandId, EntityId, Revision
from cos_ray.domain.messages import NOTHING, Accepted, Command, Packed, Refused
from cos_ray.domain.shard_assignment import HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.placement import shard_coordinator, shard_host
from cos_ray.system.clock import SystemClock
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.history import Call, Ending, faults_of_calls
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.router import Router
from tests.cluster.ledger import events_of
from tests.support.journal import SHARDS, packed, read_all
from tests.support.sharded import MemoryCluster

serials = count(1)
ENTITIES = [EntityId(f"e{number}") for number in range(20)]


class NamingHandler(CountingWriteHandler):
    """Events that are no other command's; the state counts them."""

    async def handle_command(self, command, prior, headers, timeout, first=None):  # type: ignore[no-untyped-def]
        self.commands.append((command, prior, headers))
        await self.gate.wait()
        return decide(list(events_of(command.decode())), NOTHING)


class Clients:
    """Clients of one ingress replica; what they ask and are told is in `calls`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._entities = cluster.entities()
        self.router = Router(self._entities, cluster.journal, SystemClock())
        self.calls: list[Call] = []
        self.now = lambda: cluster.clock.now().timestamp()

    async def hear(self) -> None:
        """Learn of the newest assignment, as one does after a while of silence."""
        await self._entities._refresh()

    async def send(self, entity_id: EntityId, events: int = 1, budget: float = 20.0) -> Call:
        serial = next(serials)
        text = f"op{serial}:{events}"
        command = Command(
            entity_id, Packed(text.encode()), CommandId(f"c{serial}"), budget, sent_at=self.now()
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await asyncio.wait_for(self.router.process(command), budget + 5)
        if isinstance(reply, Accepted):
            answer = (Ending.DONE, reply.state.meta.revision, reply.state.state)
        else:
            assert isinstance(reply, Refused)
            is_unknown = reply.status in (OUT_OF_TIME, OUTCOME_UNKNOWN)
            answer = (Ending.UNKNOWN if is_unknown else Ending.DENIED, Revision(0), None)
        call = Call(entity_id, events_of(text), began, loop.time(), *answer)
        self.calls.append(call)
        return call


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one is waited for as long as between processes."""
    monkeypatch.setattr(shard_coordinator, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(shard_host, "RELEASED_WITHIN", 0.5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cluster(clock: ManualClock) -> AsyncIterator[MemoryCluster]:
    cluster = MemoryCluster(MemoryJournal(), NamingHandler(), clock)
    running = asyncio.ensure_future(cluster.coordinator.run())
    yield cluster
    running.cancel()


async def until(is_true: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not is_true():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 20)


async def judge(cluster: MemoryCluster, *clients: Clients) -> None:
    calls = [call for one in clients for call in one.calls]
    assert faults_of_calls(await read_all(cluster.journal), calls) == []


async def test_each_entity_lives_at_the_home_of_its_shard_and_nowhere_else(cluster: MemoryCluster) -> None:
    clients, others = Clients(cluster), Clients(cluster)
    await asyncio.gather(
        *(one.send(entity) for one in (clients, others) for entity in ENTITIES for _ in range(5))
    )
    assignment = await cluster.coordinator.assignment()
    for host, process in cluster.processes.items():
        at_home = [entity for entity in ENTITIES if assignment.host_of(shard_of(entity, SHARDS)) == host]
        assert len(process.live) == len(at_home) > 0
    assert {call.ending for call in (*clients.calls, *others.calls)} == {Ending.DONE}
    await judge(cluster, clients, others)


async def test_hosts_are_added_and_removed_under_load_and_no_command_fails(cluster: MemoryCluster) -> None:
    clients = Clients(cluster)
    stop = asyncio.Event()

    async def load(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            await clients.send(chance.choice(ENTITIES), chance.choice([0, 1, 2]))
            await asyncio.sleep(0)

    running = [asyncio.ensure_future(load(seed)) for seed in range(10)]
    for seats in (4, 1, 3, 8, 2):
        done = len(clients.calls)
        await cluster.coordinator.resize(seats)
        await until(lambda done=done: len(clients.calls) > done + 50)
        await cluster.coordinator.look_after()
    stop.set()
    await asyncio.gather(*running)
    await until(lambda: len(cluster.processes) == 2)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_a_seat_that_is_given_again_while_its_host_leaves_has_another_host(
    cluster: MemoryCluster,
) -> None:
    clients = Clients(cluster)
    handler = cluster.handler
    assert isinstance(handler, NamingHandler)
    await cluster.coordinator.resize(2)
    process = cluster.processes[HostId("1")]
    handler.gate.clear()
    begun = [asyncio.ensure_future(clients.send(entity)) for entity in ENTITIES]
    await until(lambda: process.server.in_progress > 0)
    await cluster.coordinator.resize(1)
    await cluster.coordinator.look_after()
    retiring = process.retiring
    assert retiring is not None
    assert not retiring.done()
    await cluster.coordinator.resize(2)
    handler.gate.set()
    await asyncio.gather(*begun, retiring)
    assert set(cluster.processes) == {"0", "1.2"}
    await asyncio.gather(*(clients.send(entity) for entity in ENTITIES))
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_a_shard_is_handed_over_when_what_runs_in_it_has_ended(cluster: MemoryCluster) -> None:
    clients = Clients(cluster)
    handler = cluster.handler
    assert isinstance(handler, NamingHandler)
    await cluster.coordinator.resize(1)
    handler.gate.clear()
    first = [asyncio.ensure_future(clients.send(entity)) for entity in ENTITIES]
    await until(
        lambda: sum(process.server.in_progress for process in cluster.processes.values()) == len(ENTITIES)
    )
    resizing = asyncio.ensure_future(cluster.coordinator.resize(4))
    second = [asyncio.ensure_future(clients.send(entity)) for entity in ENTITIES]
    # The new homes wait with what was sent to them.
    await until(
        lambda: sum(process.server.in_progress for process in cluster.processes.values()) == 2 * len(ENTITIES)
    )
    assert sum(len(process.live) for process in cluster.processes.values()) == len(ENTITIES)
    handler.gate.set()
    await asyncio.gather(*first, *second, resizing)
    assert {call.revision for call in clients.calls} == {1, 2}
    await judge(cluster, clients)


async def test_who_goes_while_a_shard_is_handed_over_has_nothing_run(cluster: MemoryCluster) -> None:
    clients = Clients(cluster)
    handler = cluster.handler
    assert isinstance(handler, NamingHandler)
    await cluster.coordinator.resize(1)
    handler.gate.clear()
    first = [asyncio.ensure_future(clients.send(entity)) for entity in ENTITIES]

    def in_progress() -> int:
        return sum(process.server.in_progress for process in cluster.processes.values())

    await until(lambda: in_progress() == len(ENTITIES))
    resizing = asyncio.ensure_future(cluster.coordinator.resize(4))
    second = [asyncio.ensure_future(clients.send(entity)) for entity in ENTITIES]
    await until(lambda: in_progress() == 2 * len(ENTITIES))
    for call in second:
        call.cancel()
    # Those that wait behind one at its handler end at once; those held, when their shard has arrived.
    await until(lambda: in_progress() < 2 * len(ENTITIES))
    await asyncio.sleep(0.05)
    handler.gate.set()
    await asyncio.gather(*first, resizing)
    await until(lambda: in_progress() == 0)
    assert {call.revision for call in clients.calls} == {1}
    assert len(await read_all(cluster.journal)) == len(handler.commands) == len(ENTITIES)
    await judge(cluster, clients)


async def test_killed_hosts_lose_nothing(cluster: MemoryCluster) -> None:
    clients = Clients(cluster)
    chance = random.Random(7)
    for _ in range(20):
        sending = [asyncio.ensure_future(clients.send(chance.choice(ENTITIES))) for _ in range(30)]
        await asyncio.sleep(chance.random() * 0.01)
        if cluster.processes:
            cluster.kill(chance.choice(list(cluster.processes)))
        await asyncio.gather(*sending)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    await judge(cluster, clients)


async def test_a_silent_host_is_replaced_and_what_it_does_on_waking_is_refused(
    cluster: MemoryCluster, clock: ManualClock
) -> None:
    clients = Clients(cluster)
    await asyncio.gather(*(clients.send(entity) for entity in ENTITIES))
    asleep = cluster.processes[HostId("1")]
    asleep.is_awake.clear()
    sending = [asyncio.ensure_future(clients.send(entity, budget=60.0)) for entity in ENTITIES]
    assignment = await cluster.coordinator.assignment()
    elsewhere = [entity for entity in ENTITIES if assignment.host_of(shard_of(entity, SHARDS)) != HostId("1")]
    await until(lambda: sum(task.done() for task in sending) == len(elsewhere))
    await cluster.notice_silence(clock)
    assert (await cluster.coordinator.assignment()).hosts == ("0", "1.2")
    # Replicas hear of it when they ask, which they do after a while of silence.
    await clients.hear()
    await asyncio.gather(*sending)
    assert {call.ending for call in clients.calls} == {Ending.DONE}
    asleep.is_awake.set()
    await until(lambda: asleep.server.in_progress == 0)
    await cluster.coordinator.look_after()
    await until(lambda: HostId("1") not in cluster.processes)
    await asyncio.gather(*(clients.send(entity) for entity in ENTITIES))
    await judge(cluster, clients)


async def test_a_host_that_wakes_does_not_answer_by_what_it_remembers(
    cluster: MemoryCluster, clock: ManualClock
) -> None:
    clients, late = Clients(cluster), Clients(cluster)
    assignment = await cluster.coordinator.assignment()
    entity = next(each for each in ENTITIES if assignment.host_of(shard_of(each, SHARDS)) == "1")
    await late.send(entity)
    cluster.processes[HostId("1")].is_awake.clear()
    await cluster.notice_silence(clock)
    await clients.send(entity)
    cluster.thaw()
    # This client has not heard that there is another host now, and asks for no event.
    answer = await late.send(entity, 0)
    assert (answer.ending, answer.revision) == (Ending.DONE, 2)
    await judge(cluster, clients, late)


async def test_a_new_coordinator_goes_on_where_the_old_one_was(
    cluster: MemoryCluster, clock: ManualClock
) -> None:
    await cluster.coordinator.resize(3)
    before = await cluster.coordinator.assignment()
    clock.advance(1)
    cluster.coordinator = shard_coordinator.ShardCoordinator(cluster, SHARDS, None, clock)
    running = asyncio.ensure_future(cluster.coordinator.run())
    after = await cluster.coordinator.assignment()
    assert after.hosts == before.hosts
    assert after.epoch > before.epoch
    running.cancel()


async def test_hosts_follow_the_cluster_once_it_is_steady(cluster: MemoryCluster, clock: ManualClock) -> None:
    await cluster.coordinator.assignment()
    cluster.fitting_seats = 4
    await cluster.coordinator.look_after()
    clock.advance(shard_coordinator.STEADY_FOR / 2)
    await cluster.coordinator.look_after()
    assert len((await cluster.coordinator.assignment()).hosts) == 2
    clock.advance(shard_coordinator.STEADY_FOR)
    await cluster.coordinator.look_after()
    assert len((await cluster.coordinator.assignment()).hosts) == 4


async def test_a_fixed_number_of_hosts_stays(clock: ManualClock) -> None:
    cluster = MemoryCluster(MemoryJournal(), NamingHandler(), clock)
    cluster.coordinator = shard_coordinator.ShardCoordinator(cluster, SHARDS, 3, clock)
    running = asyncio.ensure_future(cluster.coordinator.run())
    await cluster.coordinator.assignment()
    for _ in range(3):
        clock.advance(shard_coordinator.STEADY_FOR)
        await cluster.coordinator.look_after()
    assert len((await cluster.coordinator.assignment()).hosts) == 3
    running.cancel()


async def befall(
    cluster: MemoryCluster, clock: ManualClock, clients: Sequence[Clients], chance: random.Random
) -> None:
    """One of the things that can happen to hosts."""
    match chance.choice(["kill", "freeze", "thaw", "resize", "look"]):
        case "kill":
            cluster.kill(chance.choice(list(cluster.processes)))
        case "freeze":
            chance.choice(list(cluster.processes.values())).is_awake.clear()
        case "thaw":
            cluster.thaw()
        case "resize":
            await cluster.coordinator.resize(chance.randint(1, 5))
        case "look":
            clock.advance(3)
            await cluster.coordinator.look_after()
            for one in clients:
                await one.hear()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_befalls_hosts_the_history_is_what_clients_were_told(
    cluster: MemoryCluster, clock: ManualClock, seed: int
) -> None:
    chance = random.Random(seed)
    clients = Clients(cluster), Clients(cluster)
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            await chance.choice(clients).send(chance.choice(ENTITIES[:6]), chance.choice([0, 1, 3]))
            await asyncio.sleep(0)

    running = [asyncio.ensure_future(load()) for _ in range(8)]
    await cluster.coordinator.assignment()
    for _ in range(25):
        await asyncio.sleep(chance.random() * 0.02)
        await befall(cluster, clock, clients, chance)
    cluster.thaw()
    stop.set()
    await asyncio.gather(*running)
    assert sum(call.ending is Ending.DONE for one in clients for call in one.calls) > 20
    await judge(cluster, *clients)


def test_the_handler_of_this_kit_makes_no_two_events_alike() -> None:
    assert events_of("op1:2") == (packed("op1/0"), packed("op1/1"))
