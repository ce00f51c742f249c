"""A read side whose process is killed delivers everything, in order, and goes on where it was."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from cos_ray.bootstrap.read_side import ReadSideSpec, build_supervisor
from cos_ray.cluster.names import read_side_actor_name
from cos_ray.cluster.read_side_actor import start_read_side
from cos_ray.cluster.read_side_processes import ReadSideActors
from cos_ray.cluster.runtime import RayCluster, stop_actors
from cos_ray.config.read_sides import Protocol, ReadSideConfig
from cos_ray.domain.errors import ReadSideUnavailable
from cos_ray.domain.ids import EntityId, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order, Report, ShardState
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.management import DONE_WITHIN, TOLD_WITHIN, ReadSideManagement
from cos_ray.readside.supervisor import ReadSideSupervisor
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import RecordingReadHandler, faults_in
from cos_ray.transport.lazy_pickle import pickle_lazily
from tests.cluster.conftest import LOGS, Cluster
from tests.cluster.test_write_side_losses import FOUR
from tests.support.journal import SHARDS, read_all, until

READ_SIDE = ReadSideId("watch")


async def test_killed_under_load_a_read_side_hands_over_every_event_in_order(
    cluster: Cluster, chance: random.Random
) -> None:
    config = ReadSideConfig(
        READ_SIDE, Protocol.GRPC, "127.0.0.1", cluster.handler.port, timeout=timedelta(seconds=10)
    )
    target = GrpcEndpoint(config.host, config.port)
    spec = ReadSideSpec(config, target, None, SHARDS, cluster.database, LOGS, ReleaseId("r"))
    start_read_side(cluster.namespace, READ_SIDE, pickle_lazily(build_supervisor, spec))
    deliveries = cluster.handler.deliveries
    async with cluster.under_load(FOUR, 6, chance) as load:
        for _ in range(4):
            await deliver_more(deliveries, 20)
            (await cluster.one("read-side:")).kill()
    rows = await read_all(cluster.journal)
    histories = Counter(EntityId(row.envelope.meta.entity_id) for row in rows)
    assert load.done() > 100
    await until(lambda: _all_confirmed(cluster, histories))
    assert faults_in(deliveries.attempts, histories) == []
    # It went on where it was, or nearly.
    assert len(deliveries.attempts) < 2 * len(rows)


async def test_of_two_actors_each_has_its_shards_and_an_operator_reaches_both_or_is_told(
    cluster: Cluster, chance: random.Random
) -> None:
    config = ReadSideConfig(READ_SIDE, Protocol.GRPC, "127.0.0.1", cluster.handler.port)
    target = GrpcEndpoint(config.host, config.port)
    for number in range(2):
        spec = ReadSideSpec(config, target, None, SHARDS, cluster.database, LOGS, ReleaseId("r"), 2, number)
        start_read_side(cluster.namespace, READ_SIDE, pickle_lazily(build_supervisor, spec), number)
    async with read_side_management(cluster) as management:

        async def all_run() -> bool:
            (status,) = await management.status()
            return all(shard.status.state is ShardState.RUNNING for shard in status.shards)

        await until(all_run)
        deliveries = cluster.handler.deliveries
        async with cluster.under_load(FOUR, 6, chance) as load:
            for number in (0, 1, 1):
                await deliver_more(deliveries, 20)
                await kill(cluster, read_side_actor_name(READ_SIDE, number))
                # In between it is unavailable at worst; it never hangs.
                with suppress(ReadSideUnavailable):
                    await asyncio.wait_for(management.skip(READ_SIDE), DONE_WITHIN + 5)
                await asyncio.wait_for(management.pause(READ_SIDE, number), TOLD_WITHIN + 5)
                await asyncio.wait_for(management.resume(READ_SIDE), TOLD_WITHIN + 5)
        rows = await read_all(cluster.journal)
        histories = Counter(EntityId(row.envelope.meta.entity_id) for row in rows)
        assert load.done() > 50
        await until(lambda: _all_confirmed(cluster, histories))
        faults = faults_in(deliveries.attempts, histories)
        assert faults == []
        await until(all_run)
        newest = rows[-1].envelope
        assert await management.handled(READ_SIDE, newest.meta.entity_id, newest.sequence_number, 10)
        assert not await management.handled(READ_SIDE, newest.meta.entity_id, Revision(10_000), 1)
        before = len(deliveries.attempts)
        assert (await management.replay_entities(READ_SIDE, histories)).count == len(rows)
        await until_true(lambda: len(deliveries.attempts) >= before + len(rows))


async def test_of_two_releases_the_newer_one_is_handed_all_shards_and_the_older_one_killed_takes_none_back(
    cluster: Cluster, chance: random.Random
) -> None:
    config = ReadSideConfig(READ_SIDE, Protocol.GRPC, "127.0.0.1", cluster.handler.port)
    target = GrpcEndpoint(config.host, config.port)
    newer = f"{cluster.namespace}.newer"

    def start(namespace: str) -> None:
        spec = ReadSideSpec(config, target, None, SHARDS, cluster.database, LOGS, ReleaseId(namespace))
        start_read_side(namespace, READ_SIDE, pickle_lazily(build_supervisor, spec))

    start(cluster.namespace)
    deliveries = cluster.handler.deliveries
    try:
        async with cluster.under_load(FOUR, 6, chance):
            await deliver_more(deliveries, 20)
            start(newer)
            await until(lambda: _has_all(newer))
            await deliver_more(deliveries, 20)
            for _ in range(2):
                (await cluster.one("read-side:")).kill()
                await until(lambda: _answers(cluster.namespace))
                await deliver_more(deliveries, 20)
            assert await _has_all(newer)
        rows = await read_all(cluster.journal)
        histories = Counter(EntityId(row.envelope.meta.entity_id) for row in rows)
        await until(lambda: _all_confirmed(cluster, histories))
        # In order and, for all was saved before it was handed over, once.
        assert faults_in(deliveries.attempts, histories) == []
        assert len(deliveries.attempts) == len(rows)
    finally:
        await asyncio.to_thread(stop_actors, RayCluster(newer, False, 1, None), timedelta(seconds=5))


async def _has_all(namespace: str) -> bool:
    """Whether the read side of this namespace runs in all shards."""
    answers = await ReadSideActors(namespace, 1).obey(READ_SIDE, Report(), TOLD_WITHIN)
    running = [each for answer in answers for each in answer.shards if each.state is ShardState.RUNNING]
    return len(running) == SHARDS


async def _answers(namespace: str) -> bool:
    """Whether the process of this namespace's read side has looked for shards, and has none."""
    answers = await ReadSideActors(namespace, 1).obey(READ_SIDE, Report(), TOLD_WITHIN)
    return [answer.shards for answer in answers] == [()]


async def kill(cluster: Cluster, name: str) -> None:
    """Kill the actor of this name, as soon as there is one."""

    async def killed() -> bool:
        found = await asyncio.to_thread(cluster.actors, name)
        for actor in found:
            if actor.name == name:
                actor.kill()
                return True
        return False

    await until(killed)


@asynccontextmanager
async def read_side_management(cluster: Cluster) -> AsyncIterator[ReadSideManagement]:
    """As a replica of the ingress has it."""
    stores = PostgresReadSideStores(cluster.database)
    await stores.open()
    actors = ReadSideActors(cluster.namespace, 2)
    yield ReadSideManagement(
        [READ_SIDE], SHARDS, stores.controls, stores.offsets, stores.letters, stores.places, actors
    )
    await stores.close()


async def until_true(condition: Callable[[], bool]) -> None:
    async def is_true() -> bool:
        return condition()

    await until(is_true)


async def _all_confirmed(cluster: Cluster, histories: Counter[EntityId]) -> bool:
    deliveries = cluster.handler.deliveries
    return all(
        set(deliveries.confirmed(entity_id)) >= set(range(1, length + 1))
        for entity_id, length in histories.items()
    )


async def deliver_more(deliveries: RecordingReadHandler, further: int) -> None:
    """Return when so many more events have been confirmed."""
    wanted = len(deliveries.confirmed()) + further

    async def enough() -> bool:
        return len(deliveries.confirmed()) >= wanted

    await until(enough)


async def test_a_read_side_that_fails_in_an_unforeseen_way_is_started_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    start_read_side(cluster.namespace, READ_SIDE, partial(manager_of, starts))

    async def runs() -> bool:
        return starts.exists() and starts.read_text() == "failed runs"

    await until(runs)


def manager_of(starts: Path) -> ReadSideSupervisor:
    return ReadSideSupervisor(READ_SIDE, partial(fails_once, starts), SystemClock())


async def fails_once(starts: Path) -> Idle:
    """A read side that runs the second time it is built."""
    with starts.open("a") as book:
        book.write("runs" if book.tell() else "failed ")
        if book.tell() == len("failed "):
            raise RuntimeError("as planted")
    return Idle()


class Idle:
    """A read side with nothing to do."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def notify(self, shards: Iterable[Shard]) -> None:
        pass

    async def obey(self, order: Order) -> Obeyed:
        return Obeyed(())

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        return None
