"""Telling read sides of new events."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from cos_ray.cluster import read_side_notifier
from cos_ray.cluster.read_side_notifier import ReadSideNotifier
from cos_ray.domain.ids import ReadSideId, Shard
from tests.support.journal import until


class FakeActor:
    """A read side's actor, as far as it is notified; answers when told."""

    def __init__(self) -> None:
        self.notify = self
        self.told: list[list[Shard]] = []
        self.answers: list[Future[None]] = []

    def remote(self, shards: list[Shard]) -> Any:
        self.told.append(shards)
        self.answers.append(Future())
        return self

    def future(self) -> Future[None]:
        return self.answers[-1]


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> FakeActor:
    actor = FakeActor()
    monkeypatch.setattr(read_side_notifier.ray, "get_actor", lambda name, namespace: actor)
    return actor


async def told(actor: FakeActor, times: int) -> None:
    async def often_enough() -> bool:
        return len(actor.told) >= times

    await until(often_enough)


async def test_one_that_does_not_answer_is_told_of_everything_else_when_it_does(actor: FakeActor) -> None:
    teller = ReadSideNotifier("cos-tests", [ReadSideId("balances")])
    teller.appended([Shard(1)])
    await told(actor, 1)
    for shard in (2, 3, 2):
        teller.appended([Shard(shard)])
        await asyncio.sleep(2 * read_side_notifier.DEBOUNCE)
    assert actor.told == [[1]]
    actor.answers[0].set_result(None)
    await told(actor, 2)
    assert actor.told == [[1], [2, 3]]


async def test_one_that_died_is_looked_for_again(actor: FakeActor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_side_notifier, "LOOK_AGAIN", 0.0)
    teller = ReadSideNotifier("cos-tests", [ReadSideId("balances")])
    teller.appended([Shard(1)])
    await told(actor, 1)
    actor.answers[0].set_exception(ActorDiedError())
    await asyncio.sleep(0.01)
    teller.appended([Shard(2)])
    await told(actor, 2)
    assert actor.told == [[1], [2]]
