"""What the flows tell their meters: each step once, whether it went well or not, and how long it took."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timedelta, timezone

import pytest

from cos_ray.domain.decisions import Decision
from cos_ray.domain.errors import Code, HandlerFailed, JournalUnavailable, OutcomeUnknown, Status
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import CommandId, EntityId, Offset, Shard
from cos_ray.domain.messages import Accepted, Command, EntityState, Headers, Meta, Packed, Refused
from cos_ray.domain.read_sides import Behind, Lag, ReadSideStatus, ShardState, ShardStatus
from cos_ray.ingress.admission import AdmissionControl, AdmissionPolicy
from cos_ray.ingress.service import CommandPolicy, Ingress
from cos_ray.postgres.group_commit import BatchLimits, GroupCommit
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.readside.lag_monitor import LOOK_EVERY, keep_watch
from cos_ray.subscriptions.listener import Bounds, SubscriptionEnded
from cos_ray.subscriptions.subscriptions import SubscriptionPolicy, Subscriptions, Wanted
from cos_ray.system.clock import SystemClock
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.meters import ScriptOfJournal, ScriptOfMeters, ScriptOfReadSide
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.writeside.entity import Entity
from tests.support.journal import append_of
from tests.support.read_side import READ_SIDE, World
from tests.unit.test_group_commit import SOON, Carrier, ask, encoded
from tests.unit.test_ingress import Context, Gateway, Parts

A = EntityId("a")
serials = itertools.count()


def command(times: int = 1) -> Command:
    return Command(A, Packed(str(times).encode()), CommandId(f"told{next(serials)}"), 60.0)


class SlowHandler(CountingWriteHandler):
    """Takes 2 s for a command and 3 s for an event, by the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.refuses = False

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        await self._clock.sleep(2)
        if self.refuses:
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, "no"))
        return await super().handle_command(command, prior, headers, timeout)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        await self._clock.sleep(3)
        return await super().handle_event(event, prior_state, meta, timeout)


class TestEntity:
    async def told(self, *commands: Command, refuses: bool = False) -> ScriptOfMeters:
        clock, meter = ManualClock(), ScriptOfMeters()
        handler = SlowHandler(clock)
        handler.refuses = refuses
        entity = Entity(A, Shard(0), handler, MemoryJournal(), clock, meter=meter)
        running = [asyncio.ensure_future(entity.process(each)) for each in commands]
        await clock.pass_time(50)
        await asyncio.gather(*running)
        return meter

    async def test_every_stage_is_told_with_its_time(self):
        meter = await self.told(command(2))
        assert meter.told == [
            ("waited", 0),
            ("recovered", 0),
            ("handled command", 2),
            ("handled event", 3),
            ("handled event", 3),
            ("appended", 0),
        ]

    async def test_a_command_behind_another_waits_as_long_as_that_takes(self):
        meter = await self.told(command(1), command(1))
        assert meter.of("waited") == [0, 5]
        assert len(meter.of("recovered")) == 1

    async def test_a_refused_command_has_taken_its_time_too(self):
        meter = await self.told(command(1), refuses=True)
        assert (meter.of("handled command"), meter.of("appended")) == ([2], [])

    async def test_a_lost_race_is_a_conflict(self):
        journal, meter = MemoryJournal(), ScriptOfMeters()
        one, other = (
            Entity(A, Shard(0), CountingWriteHandler(), journal, SystemClock(), meter=meter) for _ in range(2)
        )
        for entity in (one, other, one):
            assert isinstance(await entity.process(command(1)), Accepted)
        assert len(meter.of("conflicted")) == 1


class TestIngress:
    async def test_every_command_is_answered_with_one_outcome_however_it_ends(self):
        meter = ScriptOfMeters()
        gateway = Gateway()
        ingress = Ingress.__new__(Ingress)

        async def build() -> Parts:
            return Parts(gateway, CommandPolicy(5.0, (), (), 10), meter=meter)

        await ingress.__init__(build)
        request = ProcessCommandRequest(entity_id="a")
        await ingress.ProcessCommand(request, Context())
        gateway.answer = Refused(Status(Code.ABORTED, "no"))
        await ingress.ProcessCommand(request, Context())
        gateway.answer = RuntimeError("unforeseen")
        await ingress.ProcessCommand(request, Context())
        await ingress.ProcessCommand(ProcessCommandRequest(), Context())
        gateway.gate.clear()
        cancelled = asyncio.ensure_future(ingress.ProcessCommand(request, Context()))
        await asyncio.sleep(0)
        assert meter.in_progress == 1
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert meter.outcomes == [
            None,
            Code.ABORTED,
            Code.INTERNAL,
            Code.INVALID_ARGUMENT,
            Code.CANCELLED,
        ]
        assert meter.in_progress == 0

    def test_who_is_not_let_in_is_counted(self):
        meter = ScriptOfMeters()
        guard = AdmissionControl(AdmissionPolicy(request_bytes=3), ManualClock(), meter)
        request = ProcessCommandRequest(entity_id="a long one")
        assert guard.refuses("ProcessCommand", request, Context()) is not None
        assert guard.refuses("ProcessCommand", ProcessCommandRequest(), Context()) is None
        assert [told for told, _ in meter.told] == [
            "refused: grpc message",
            "turned away: RESOURCE_EXHAUSTED",
        ]


class TestGroupCommit:
    async def test_a_batch_tells_its_size_and_what_of_it_failed_for_the_databases_sake(self):
        carrier, meter = Carrier(), ScriptOfJournal()
        answers = {"a": Offset(1), "b": JournalUnavailable("gone"), "c": OutcomeUnknown("who knows")}
        carrier.answer = lambda append: answers[append.entity_id]
        group_commit = GroupCommit([carrier.send], BatchLimits(), meter)
        carrier.let_go()
        asked = ask(group_commit, encoded("a"), encoded("b"), encoded("c"))
        await asyncio.wait(asked)
        assert all(each.done() for each in asked)
        assert next(each.exception() for each in asked) is None
        await group_commit.stop(SOON)
        assert sum(meter.batches) == 3
        assert sorted(meter.failures) == [False, True]
        assert group_commit.waiting == 0


class TestReadSide:
    @pytest.fixture
    def world(self) -> World:
        return World()

    async def test_deliveries_retries_and_what_is_set_aside_are_told(self, world):
        meter = world.meter = ScriptOfReadSide()
        world.handler.fail("a", 1, times=2)
        world.handler.fail("b", 2)
        world.source.add(0, "a", 3)
        world.source.add(1, "b", 3)
        five = Backoff(timedelta(seconds=5), timedelta(seconds=5))
        async with world.running(policy=DeliveryPolicy(2, five, LastResort.PARK)):
            await world.clock.until(lambda: world.shard(1).parked == 2)
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3])
        assert len(meter.ages) == 4
        assert (meter.failures, meter.retries) == (2 + 3, 2 + 2)
        assert (meter.parkings, meter.skips) == (2, 0)
        assert len(meter.calls) == len(meter.ages) + meter.failures

    async def test_a_skipped_event_is_told(self, world):
        meter = world.meter = ScriptOfReadSide()
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=DeliveryPolicy(0, last_resort=LastResort.SKIP)):
            await world.clock.until(lambda: world.handler.confirmed("a") == [2])
        assert (meter.skips, len(meter.ages)) == (1, 1)


class TestLookout:
    async def test_it_tells_again_and_again_how_far_behind_read_sides_are_also_after_a_fault(self):
        clock, meter = ManualClock(), ScriptOfMeters()
        then = datetime(2026, 1, 1, tzinfo=timezone.utc)
        lags = [Lag(3, False, then), JournalUnavailable("gone"), Lag()]

        class Desk:
            async def status(self) -> list[ReadSideStatus]:
                lag = lags.pop(0)
                if isinstance(lag, Exception):
                    raise lag
                shard = ShardStatus(Shard(0), ShardState.RUNNING, Offset(0))
                return [ReadSideStatus(READ_SIDE, (Behind(shard, lag), Behind(shard, Lag())))]

        clock.advance(30)
        watch = asyncio.ensure_future(keep_watch(Desk(), clock, meter))
        await clock.pass_time(LOOK_EVERY / 2)
        assert meter.progress == {READ_SIDE: (3, 30.0)}
        await clock.pass_time(LOOK_EVERY)
        assert meter.progress == {READ_SIDE: (3, 30.0)}
        await clock.pass_time(LOOK_EVERY)
        assert meter.progress == {READ_SIDE: (0, 0.0)}
        watch.cancel()


class TestSubscriptions:
    async def test_events_sent_are_told_and_who_is_cut_off(self):
        journal, clock, meter = MemoryJournal(), ManualClock(), ScriptOfMeters()
        policy = SubscriptionPolicy(bounds=Bounds(events=2))
        subscriptions = Subscriptions(journal, clock, policy, meter)
        heard, may_go_on = [], asyncio.Event()

        async def listen() -> None:
            async for event in subscriptions.events(Wanted("s", A)):
                heard.append(event)
                await may_go_on.wait()

        listening = asyncio.ensure_future(listen())
        await clock.pass_time(0.2)
        for expected in range(6):
            await journal.append(append_of(A, expected=expected))
            await clock.pass_time(0.2)
        may_go_on.set()
        with pytest.raises(SubscriptionEnded):
            await listening
        assert (meter.of("sent"), meter.of("cut")) == ([0.0] * len(heard), [0.0])
        subscriptions.close()
