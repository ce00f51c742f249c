"""A supervisor's work for its release, and a replica's word to it, without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cos_ray.bootstrap import serve_build
from cos_ray.cluster import (
    read_side_actor,
    release_supervisor_actor,
    service_registry,
    shard_coordinator_actor,
)
from cos_ray.cluster.head_probe import HeadProbe
from cos_ray.cluster.release_supervision import ReleaseSupervision
from cos_ray.cluster.release_supervisor_actor import Attendance, Release
from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import ReadSideId
from cos_ray.domain.release_lease import LAPSES_AFTER, LOOK_EVERY
from cos_ray.telemetry.logs import LogSettings
from cos_ray.transport.lazy_pickle import pickle_lazily

LOOKS = round(LAPSES_AFTER / LOOK_EVERY)
PATIENCE = 10.0


class World:
    """Looks take no time; the head is there or not; ending fails as often as wanted."""

    def __init__(self, start: Callable[[], None] = lambda: None, failing_ends: int = 0) -> None:
        self.looks = 0
        self.has_head = True
        self.ends = 0
        self._failing_ends = failing_ends
        self.supervisor = ReleaseSupervision(start, self._end, self._can_hear, self._pause)

    async def _can_hear(self) -> bool:
        return self.has_head

    async def _pause(self, seconds: float) -> None:
        self.looks += 1
        await asyncio.sleep(0)

    def _end(self) -> None:
        self.ends += 1
        if self.ends <= self._failing_ends:
            raise RuntimeError("the head is away")

    async def after_looks(self, count: int) -> None:
        until = self.looks + count
        async with asyncio.timeout(PATIENCE):
            while self.looks < until:
                await asyncio.sleep(0)


async def test_a_release_without_replicas_is_ended() -> None:
    world = World()
    await asyncio.wait_for(world.supervisor.run(), PATIENCE)
    assert world.ends == 1
    assert await world.supervisor.note() is False


async def test_while_the_head_is_away_silence_does_not_count() -> None:
    world = World()
    world.has_head = False
    running = asyncio.create_task(world.supervisor.run())
    await world.after_looks(10 * LOOKS)
    assert not running.done()
    assert await world.supervisor.note() is True
    world.has_head = True
    await asyncio.wait_for(running, PATIENCE)


async def test_an_end_that_fails_is_tried_again_until_it_succeeds() -> None:
    world = World(failing_ends=3)
    await asyncio.wait_for(world.supervisor.run(), PATIENCE)
    assert world.ends == 4


async def test_a_release_is_not_ended_while_it_starts() -> None:
    go = threading.Event()
    world = World(start=lambda: bool(go.wait(PATIENCE)) or None)
    noted = asyncio.create_task(world.supervisor.note())
    running = asyncio.create_task(world.supervisor.run())
    try:
        await world.after_looks(2 * LOOKS)
        assert not running.done()
    finally:
        go.set()
    assert await noted is True
    await asyncio.wait_for(running, PATIENCE)


@pytest.mark.parametrize("error", [StartFailed("no"), ValueError("name taken"), RuntimeError("odd")])
async def test_a_start_that_fails_in_any_way_ends_the_release(error: Exception) -> None:
    def start() -> None:
        raise error

    world = World(start)
    assert isinstance(await world.supervisor.note(), StartFailed)
    await asyncio.wait_for(world.supervisor.run(), PATIENCE)
    assert world.ends == 1
    assert await world.supervisor.note() is False


async def test_of_a_head_that_is_away_one_question_at_a_time_is_asked() -> None:
    answers, asked = threading.Event(), []

    def ask() -> None:
        asked.append(1)
        answers.wait(PATIENCE)

    head = HeadProbe(ask)
    for _ in range(5):
        assert not await head.answers_within(0.01)
    assert len(asked) == 1
    answers.set()
    assert await head.answers_within(PATIENCE)
    assert await head.answers_within(PATIENCE)
    assert 2 <= len(asked) <= 3  # and none of those who gave up left a question behind


async def test_a_question_that_fails_is_no_answer_and_the_next_is_asked_anew() -> None:
    fails = [True, False]

    def ask() -> None:
        if fails.pop(0):
            raise RuntimeError("no head")

    head = HeadProbe(ask)
    assert not await head.answers_within(PATIENCE)
    assert await head.answers_within(PATIENCE)


async def test_a_replica_puts_the_way_in_up_again_that_an_ended_steward_took_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board: dict[str, Any] = {}
    answers: list[object] = [False, RuntimeError("no head"), StartFailed("no"), True]

    def publish(name: str, way_in: Any, *, only_if_none: bool) -> None:
        assert only_if_none  # a newer release's stays
        board.setdefault(name, way_in)

    async def noted(supervisor: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    monkeypatch.setattr(service_registry, "publish", publish)
    monkeypatch.setattr(release_supervisor_actor, "_found_or_started", lambda release: None)
    monkeypatch.setattr(release_supervisor_actor, "_noted", noted)
    release = Release(
        "cos-x", "cos-x.1", pickle_lazily(print), pickle_lazily(print), LogSettings("INFO", "json", "x")
    )
    attendance = Attendance(release)
    for _ in range(3):
        await attendance.renew_once()
        assert not board
    await attendance.renew_once()
    assert board == {"cos-x": release.way_in}


class NameGivenUp:
    """An actor class whose name was taken and given up in the same moment."""

    @classmethod
    def options(cls, **_: object) -> type[NameGivenUp]:
        return cls

    @classmethod
    def remote(cls, *_: object) -> None:
        raise ValueError("Failed to look up actor with name")


def test_a_name_given_up_while_parts_start_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_side_actor, "ReadSideActor", NameGivenUp)
    monkeypatch.setattr(shard_coordinator_actor, "ShardCoordinatorActor", NameGivenUp)
    build: Any = None
    with pytest.raises(StartFailed):
        read_side_actor.start_read_side("cos-x", ReadSideId("r"), build)
    with pytest.raises(StartFailed):
        shard_coordinator_actor.start_shard_coordinator("cos-x", build)


def test_a_deployment_waits_long_for_its_database_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Waited(Exception):
        pass

    def wait(database: object, within: timedelta, on_retry: Callable[[str], None]) -> None:
        assert within >= timedelta(minutes=10)
        for _ in range(3):
            on_retry("waiting for the database")
        raise Waited

    monkeypatch.setattr(serve_build, "wait_until_reachable", wait)
    monkeypatch.setattr(serve_build, "ensure_same_everywhere", lambda tls: None)
    monkeypatch.setenv("COS_DB_HOST", "db")
    with pytest.raises(Waited):
        serve_build.build({"COS_WRITE_SIDE_HOST": "handler", "COS_WRITE_SIDE_PORT": 50051})
    assert [record.message for record in caplog.records].count("waiting for the database") == 1
