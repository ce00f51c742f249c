"""
What happens to shards between two homes: long commands, hosts and coordinators that sleep.

All hosts are in this event loop and share a journal in memory; see `tests.support.sharded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from itertools import count

import pytest

from cos_ray.domain.decisions import decide
from cos_ray.domain.errors import OUT_OF_TIME, OUTCOME_UNKNOWN, Code, HandlerFailed, Status
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import NOTHING, Accepted, Command, Packed, Refused, Reply
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.placement import shard_coordinator, shard_host
from cos_ray.system.clock import SystemClock
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import count_of
from cos_ray.writeside.router import Router
from tests.support.journal import SHARDS
from tests.support.sharded import MemoryCluster
from tests.unit.test_sharded_placement import ENTITIES, Clients, NamingHandler, until

serials = count(1)


class Purse(NamingHandler):
    """Puts in and takes out; a command that finds the gate closed waits until `held` is set."""

    held: asyncio.Event

    async def handle_command(self, command, prior, headers, timeout, first=None):  # type: ignore[no-untyped-def]
        self.commands.append((command, prior, headers))
        self.held = self.gate
        await self.held.wait()
        amount = int(command)
        if count_of(prior.state) + amount < 0:
            raise HandlerFailed(Status(Code.FAILED_PRECONDITION, "there is too little"))
        one = Packed(b"+1") if amount > 0 else Packed(command)
        return decide([one] * max(amount, amount < 0), NOTHING)

    async def handle_event(self, event, prior_state, meta, timeout):  # type: ignore[no-untyped-def]
        return Packed(str(count_of(prior_state) + int(event)).encode())


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


async def test_a_command_that_outlasts_the_release_of_its_shard_is_in_all_answers_after_its_own(
    clock: ManualClock,
) -> None:
    handler = Purse()
    cluster = MemoryCluster(MemoryJournal(), handler, clock)
    running = asyncio.ensure_future(cluster.coordinator.run())
    router = Router(cluster.entities(), cluster.journal, SystemClock())

    async def send(entity: EntityId, text: str) -> Reply:
        command = Command(entity, Packed(text.encode()), CommandId(f"c{next(serials)}"), 20.0)
        return await asyncio.wait_for(router.process(command), 30)

    assignment = await cluster.coordinator.assignment()
    entity = next(each for each in ENTITIES if assignment.host_of(shard_of(each, SHARDS)) == "1")
    handler.gate.clear()
    begun = asyncio.ensure_future(send(entity, "3"))
    await until(lambda: handler.commands)
    handler.gate = asyncio.Event()
    handler.gate.set()
    let_go = handler.held
    await cluster.coordinator.resize(1)
    # Long enough for any word between hosts and coordinator.
    await clock.pass_time(2)
    # The new home has waited, and then read the state without what the old one has under way.
    before = await send(entity, "0")
    assert isinstance(before, Accepted)
    assert before.state.meta.revision == 0
    assert isinstance(await send(entity, "-2"), Refused)
    assert not begun.done()
    let_go.set()
    done = await begun
    assert isinstance(done, Accepted)
    assert done.state.meta.revision == 3
    assert await send(entity, "0") == done
    after = await send(entity, "-2")
    assert isinstance(after, Accepted)
    assert (after.state.state, after.state.meta.revision) == (b"1", 4)
    running.cancel()


@pytest.mark.parametrize("maybe_stored", [True, False])
async def test_a_command_that_waits_in_vain_for_its_shard_stays_in_doubt_if_it_was(
    cluster: MemoryCluster, maybe_stored: bool
) -> None:
    handler = cluster.handler
    assert isinstance(handler, NamingHandler)
    assignment = await cluster.coordinator.assignment()
    entity = next(each for each in ENTITIES if assignment.host_of(shard_of(each, SHARDS)) == "1")
    handler.gate.clear()
    begun = asyncio.ensure_future(Clients(cluster).send(entity))
    await until(lambda: handler.commands)
    await cluster.coordinator.resize(1)
    command = Command(entity, Packed(b"x:1"), CommandId("waits"), 0.05, maybe_stored=maybe_stored)
    reply = await cluster.processes[HostId("0")].host.process(command)
    assert reply == Refused(OUTCOME_UNKNOWN if maybe_stored else OUT_OF_TIME)
    handler.gate.set()
    await begun


async def test_a_living_host_is_asked_to_let_go_also_where_another_one_was_given_up_before(
    cluster: MemoryCluster, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.coordinator.assignment()
    await cluster.coordinator.look_after()
    cluster.processes[HostId("1")].is_awake.clear()
    await cluster.notice_silence(clock)
    assert (await cluster.coordinator.assignment()).given_up == {"1"}
    cluster.thaw()
    await cluster.coordinator.resize(1)
    await cluster.coordinator.look_after()
    await until(lambda: len(cluster.processes) == 1)
    assignment = await cluster.coordinator.resize(2)
    asked: list[HostId] = []
    release = cluster.release

    async def asking(host: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        asked.append(host)
        await release(host, assignment, shards)

    monkeypatch.setattr(cluster, "release", asking)
    await cluster.coordinator.resize(1)
    await until(lambda: asked == [assignment.hosts[1]])


async def test_a_coordinator_that_was_frozen_while_it_asked_gives_up_no_one(
    cluster: MemoryCluster, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One look in vain would be enough.
    monkeypatch.setattr(shard_coordinator, "SILENT_AFTER", shard_coordinator.LOOK_EVERY)
    before = await cluster.coordinator.assignment()
    for _ in range(3):
        await cluster.coordinator.look_after()
        for process in cluster.processes.values():
            process.is_awake.clear()
        looking = asyncio.ensure_future(cluster.coordinator.look_after())
        await asyncio.sleep(0)
        # It wakes much later, and finds that the time for all answers is over.
        clock.advance(10)
        await looking
        cluster.thaw()
    assert await cluster.coordinator.assignment() == before


async def test_a_coordinator_that_was_frozen_before_it_asked_does_not_take_its_own_sleep_for_silence(
    cluster: MemoryCluster, clock: ManualClock
) -> None:
    before = await cluster.coordinator.assignment()
    await cluster.coordinator.look_after()
    process = cluster.processes[HostId("1")]
    process.is_awake.clear()
    clock.advance(3 * shard_coordinator.SILENT_AFTER)
    await cluster.coordinator.look_after()
    assert await cluster.coordinator.assignment() == before
    await cluster.notice_silence(clock)
    assert (await cluster.coordinator.assignment()).hosts == ("0", "1.2")
