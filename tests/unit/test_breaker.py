"""Handlers behind a breaker: what counts, what is let through, and what is told."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from cos_ray.domain.circuit_breaker import BreakerPolicy, Circuit, Closed, HalfOpen, Open
from cos_ray.domain.errors import Code, DeliveryFailed, HandlerFailed, Status
from cos_ray.domain.ids import CommandId, EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import Command, EventEnvelope, Meta, Packed, Refused
from cos_ray.handlers.breaker import Breaker, GuardedReadHandler, GuardedWriteHandler
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.read_handlers import RecordingReadHandler
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity
from tests.support.handler import UNBORN

POLICY = BreakerPolicy(3, timedelta(seconds=2), timedelta(seconds=10))


class Scene:
    """A counting handler behind a breaker whose clock the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.inner = CountingWriteHandler()
        self.circuits: list[Circuit] = []
        self.breaker = Breaker("bank", POLICY, self.clock, self.circuits.append)
        self.handler = GuardedWriteHandler(self.inner, self.breaker)

    async def ask(self, failure: Code | None = None) -> Code | None:
        """One command, met with this failure; the code it ended with."""
        if failure is not None:
            self.inner.failures.append(HandlerFailed(Status(failure, "as planted")))
        try:
            await self.handler.handle_command(Packed(b"1"), UNBORN, (), 5.0)
        except HandlerFailed as error:
            return error.status.code
        return None

    async def break_it(self) -> None:
        for _ in range(POLICY.max_failures):
            await self.ask(Code.UNAVAILABLE)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_only_trouble_opens_it_and_never_a_rejection(scene: Scene, code: Code) -> None:
    for _ in range(10):
        await scene.ask(code)
    is_trouble = code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN)
    assert isinstance(scene.breaker.circuit, Open if is_trouble else Closed)
    assert len(scene.inner.commands) == (3 if is_trouble else 10)


async def test_while_it_is_open_calls_fail_at_once_and_reach_nobody(scene: Scene) -> None:
    await scene.break_it()
    assert await scene.ask() is Code.UNAVAILABLE
    with pytest.raises(HandlerFailed, match="circuit breaker is open"):
        await scene.handler.handle_event(Packed(b"+1"), UNBORN.state, UNBORN.meta, 5.0)
    assert len(scene.inner.commands) == 3


async def test_after_a_while_one_call_is_tried_and_its_answer_closes_it(scene: Scene) -> None:
    await scene.break_it()
    scene.clock.advance(POLICY.reset_timeout)
    scene.inner.gate.clear()
    trial = asyncio.ensure_future(scene.ask())
    while len(scene.inner.commands) < 4:
        await asyncio.sleep(0)
    assert await scene.ask() is Code.UNAVAILABLE
    scene.inner.gate.set()
    assert await trial is None
    assert await scene.ask() is None


async def test_a_trial_that_fails_keeps_it_open(scene: Scene) -> None:
    await scene.break_it()
    scene.clock.advance(POLICY.reset_timeout)
    assert await scene.ask(Code.INTERNAL) is Code.INTERNAL
    assert await scene.ask() is Code.UNAVAILABLE


async def test_a_trial_whose_client_is_gone_leaves_the_trial_to_the_next(scene: Scene) -> None:
    await scene.break_it()
    scene.clock.advance(POLICY.reset_timeout)
    scene.inner.gate.clear()
    trial = asyncio.ensure_future(scene.ask())
    while len(scene.inner.commands) < 4:
        await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    scene.inner.gate.set()
    assert await scene.ask() is None


async def test_an_error_nobody_foresaw_counts_as_trouble(scene: Scene) -> None:
    async def explode() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await scene.breaker.run(explode)
    assert isinstance(scene.breaker.circuit, Open)


async def test_every_change_is_logged_and_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cos_ray")
    await scene.break_it()
    scene.clock.advance(POLICY.reset_timeout)
    await scene.ask()
    assert [type(circuit) for circuit in scene.circuits] == [Open, HalfOpen, Closed]
    told = [(record.levelname, vars(record)["circuit"]) for record in caplog.records]
    assert told == [("WARNING", "Open"), ("INFO", "HalfOpen"), ("INFO", "Closed")]


async def test_a_call_gets_no_more_time_than_the_call_timeout() -> None:
    given: list[float] = []

    class Timed(CountingWriteHandler):
        async def handle_command(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
            given.append(arguments[3])  # type: ignore[arg-type]
            return await super().handle_command(*arguments, **named)  # type: ignore[arg-type]

    handler = GuardedWriteHandler(Timed(), Breaker("bank", POLICY, ManualClock()))
    for timeout in (5.0, 1.0):
        await handler.handle_command(Packed(b"1"), UNBORN, (), timeout)
    assert given == [2.0, 1.0]


async def test_through_an_open_circuit_nothing_is_stored(scene: Scene) -> None:
    journal = MemoryJournal()
    entity = Entity(EntityId("a"), Shard(0), scene.handler, journal, scene.clock)
    await scene.break_it()
    reply = await entity.process(Command(EntityId("a"), Packed(b"1"), CommandId("c"), 5.0))
    assert isinstance(reply, Refused)
    assert reply.status.code is Code.UNAVAILABLE
    assert journal.appends == []


async def test_a_read_handler_s_no_is_an_answer_and_its_silence_is_trouble() -> None:
    inner, clock = RecordingReadHandler(), ManualClock()
    breaker = Breaker("balances", POLICY, clock)
    handler = GuardedReadHandler(inner, breaker)
    envelope = EventEnvelope(Packed(b"e"), Packed(b"s"), Meta(EntityId("a"), Revision(1)), Revision(1))

    async def deliver() -> str:
        with pytest.raises(DeliveryFailed) as caught:
            await handler.handle(ReadSideId("balances"), Shard(0), envelope)
        return str(caught.value)

    inner.fail(times=5)
    for _ in range(5):
        assert await deliver() == "planted"
    assert breaker.circuit == Closed()
    inner.fail(times=3, error=DeliveryFailed("no answer", Code.DEADLINE_EXCEEDED))
    for _ in range(3):
        assert await deliver() == "no answer"
    assert "circuit breaker is open" in await deliver()
    clock.advance(POLICY.reset_timeout)
    await handler.handle(ReadSideId("balances"), Shard(0), envelope)
    assert breaker.circuit == Closed()
