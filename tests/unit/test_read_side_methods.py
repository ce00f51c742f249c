"""What operators are answered: the supervisor's ten RPCs and ours, over read sides in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.domain.failure_policy import DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import Accepted, EntityState, Meta, Packed
from cos_ray.domain.read_sides import ShardState
from cos_ray.domain.sharding import shard_of
from cos_ray.ingress.read_side_methods import ReadSideMethods
from cos_ray.protocol.pb.chief_of_state.v1 import manager_pb2 as supervisor
from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2 as pb
from tests.support.read_side import READ_SIDE, OneProcess, World, desk_of
from tests.unit.test_ingress import Context, Gateway, ingress, request

VERBS = ("RestartReadSide", "PauseReadSide", "ResumeReadSide", "SkipOffset")


class Methods(ReadSideMethods):
    def __init__(self, management) -> None:
        self.management = management

    def _read_side_management(self):
        return self.management


class Served:
    """One read side that runs, and an operator."""

    def __init__(self) -> None:
        self.world = World()
        self.processes = OneProcess()
        self.methods = Methods(desk_of([READ_SIDE], self.world, self.processes))
        self.context = Context()

    async def call(self, name: str, **fields):
        """Call the RPC; time goes on until it answers."""
        import asyncio

        method = getattr(self.methods, name)
        module = supervisor if hasattr(supervisor, f"{name}Request") else pb
        self.context = Context()
        fields.setdefault("read_side_id", READ_SIDE)
        calling = asyncio.ensure_future(method(getattr(module, f"{name}Request")(**fields), self.context))
        await self.world.clock.until(calling.done)
        return calling.result()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    policy = DeliveryPolicy(0, last_resort=LastResort.PARK)
    async with served.world.running(policy=policy) as read_side:
        served.processes.processes = [read_side]
        yield served


class TestManager:
    async def test_offsets_have_one_entry_for_each_shard_zero_where_unknown(self, served):
        last = served.world.source.add(1, "a", 3)
        await served.world.clock.until(lambda: served.world.saved(1))
        reply = await served.call("GetLatestOffset")
        assert [(e.cluster_shard_number, e.offset) for e in reply.offsets] == [(0, 0), (1, last)]
        reply = await served.call("GetLatestOffsetByShard", cluster_shard_number=1)
        assert (reply.offsets.cluster_shard_number, reply.offsets.offset) == (1, last)

    @pytest.mark.parametrize("verb", VERBS)
    async def test_every_verb_succeeds_for_all_shards_and_for_one(self, served, verb):
        assert (await served.call(verb)).successful
        assert (await served.call(f"{verb}ByShard", cluster_shard_number=1)).successful
        assert served.context.code is None

    @pytest.mark.parametrize("verb", [*VERBS, "GetLatestOffset"])
    async def test_an_unknown_read_side_is_not_found(self, served, verb):
        for name, fields in ((verb, {}), (f"{verb}ByShard", {"cluster_shard_number": 0})):
            reply = await served.call(name, read_side_id="nobody", **fields)
            assert served.context.code is grpc.StatusCode.NOT_FOUND
            assert "nobody" in served.context.details
            assert reply == type(reply)()

    @pytest.mark.parametrize("verb", [*VERBS, "GetLatestOffset"])
    @pytest.mark.parametrize("shard", [2, 2**64 - 1])
    async def test_a_wrong_shard_is_an_invalid_argument(self, served, verb, shard):
        await served.call(f"{verb}ByShard", cluster_shard_number=shard)
        assert served.context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert served.context.details == "wrong shard number provided"

    async def test_pausing_one_shard_pauses_no_other_until_it_is_resumed(self, served):
        await served.call("PauseReadSideByShard", cluster_shard_number=0)
        served.world.source.add(0, "a")
        served.world.source.add(1, "b")
        await served.world.clock.advance(10)
        assert served.world.handler.confirmed("a") == []
        assert served.world.handler.confirmed("b") == [1]
        await served.call("ResumeReadSide")
        await served.world.clock.until(served.world.all_confirmed)

    async def test_a_restart_clears_the_offset_and_replays(self, served):
        served.world.source.add(0, "a", 2)
        await served.world.clock.until(lambda: served.world.saved(0))
        await served.call("RestartReadSide")
        await served.world.clock.until(lambda: served.world.handler.confirmed("a") == [1, 2, 1, 2])

    async def test_pausing_is_stored_where_no_process_answers(self, served):
        served.processes.answers = False
        assert (await served.call("PauseReadSide")).successful
        await served.world.clock.advance(6)
        assert served.world.shard(0).state is ShardState.PAUSED

    @pytest.mark.parametrize("verb", ["RestartReadSide", "SkipOffset"])
    async def test_what_only_a_process_can_do_is_unavailable_while_none_answers(self, served, verb):
        served.processes.answers = False
        await served.call(verb)
        assert served.context.code is grpc.StatusCode.UNAVAILABLE
        assert served.context.details == (
            "no process of read side balances answers for shard 0, 1; try again"
        )

    @pytest.mark.parametrize("verb", ["PauseReadSide", "GetLatestOffset"])
    async def test_without_a_database_it_is_unavailable(self, served, verb):
        served.world.offsets.reachable = False
        await served.call(verb)
        assert served.context.code is grpc.StatusCode.UNAVAILABLE
        assert served.context.details == "the journal is unavailable"
        served.world.offsets.reachable = True

    async def test_a_fault_of_ours_is_internal_and_tells_nothing(self, served):
        served.methods.management = None
        await served.call("PauseReadSide")
        assert served.context.code is grpc.StatusCode.INTERNAL
        assert served.context.details == "the service failed; its log says why"


class TestStatus:
    async def test_it_says_where_each_shard_is_and_what_went_wrong(self, served):
        served.world.handler.fail("a", 2)
        served.world.source.add(0, "a", 2)
        await served.world.clock.until(lambda: served.world.shard(0).parked)
        await served.call("PauseReadSideByShard", cluster_shard_number=1)
        served.world.source.add(1, "b", 3)
        (status,) = (await served.call("GetReadSideStatus", read_side_id="")).read_sides
        first, second = status.shards
        assert (status.read_side_id, first.state) == (READ_SIDE, pb.SHARD_STATE_RUNNING)
        assert (first.deliveries, first.failures, first.dead_letters) == (1, 1, 1)
        assert (first.last_error.entity_id, first.last_error.revision_number) == ("a", 2)
        assert (second.state, second.events_behind) == (pb.SHARD_STATE_PAUSED, 3)

    async def test_it_is_answered_from_what_is_stored_when_no_process_answers(self, served):
        last = served.world.source.add(0, "a", 2)
        await served.world.clock.until(lambda: served.world.saved(0))
        await served.call("PauseReadSideByShard", cluster_shard_number=1)
        served.processes.answers = False
        (status,) = (await served.call("GetReadSideStatus")).read_sides
        assert [(shard.state, shard.offset) for shard in status.shards] == [
            (pb.SHARD_STATE_UNKNOWN, last),
            (pb.SHARD_STATE_PAUSED, 0),
        ]


class TestReplay:
    async def test_since_a_time_after_an_offset_or_of_entities(self, served):
        entity = "a" if shard_of(EntityId("a"), 2) == 0 else "b"
        served.world.source.add(0, entity, 4)
        third = served.world.source.events(0)[2].offset
        await served.world.clock.until(lambda: served.world.saved(0))
        assert (await served.call("ReplayReadSide", since=Timestamp(seconds=third))).count == 2
        await served.world.clock.until(lambda: served.world.handler.confirmed(entity)[4:] == [3, 4])
        assert (await served.call("ReplayReadSide", after_offset=third, shards=[0])).count == 1
        await served.world.clock.until(lambda: served.world.handler.confirmed(entity)[6:] == [4])
        ids = pb.EntityIds(ids=[entity])
        assert (await served.call("ReplayReadSide", entities=ids)).count == 4
        await served.world.clock.until(lambda: served.world.handler.confirmed(entity)[7:] == [1, 2, 3, 4])

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({}, "is needed"),
            ({"entities": pb.EntityIds()}, "is needed"),
            ({"entities": pb.EntityIds(ids=["a"]), "shards": [1]}, "is needed"),
            ({"entities": pb.EntityIds(ids=[""])}, "empty entity ID"),
            ({"since": Timestamp(seconds=10**15)}, "since is no time"),
            ({"after_offset": 1, "shards": [7]}, "wrong shard"),
        ],
    )
    async def test_what_makes_no_sense_is_an_invalid_argument(self, served, fields, reason):
        await served.call("ReplayReadSide", **fields)
        assert served.context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in served.context.details


class TestDeadLetters:
    async def test_they_are_listed_retried_and_dropped(self, served):
        first, other = [f"e{n}" for n in range(9) if shard_of(EntityId(f"e{n}"), 2) == 0][:2]
        served.world.handler.fail(revision=1)
        served.world.source.add(0, first, 2)
        served.world.source.add(0, other, 2)
        await served.world.clock.until(lambda: served.world.shard(0).parked == 4)
        letters = (await served.call("ListDeadLetters")).letters
        assert [letter.sequence_number for letter in letters] == [1, 2, 1, 2]
        assert letters[0].reason == "planted"
        assert len((await served.call("ListDeadLetters", entity_id=other, limit=1)).letters) == 1
        reply = await served.call("RetryDeadLetters")
        assert (reply.delivered, len(reply.failed)) == (0, 2)
        served.world.handler.heal()
        assert (await served.call("RetryDeadLetters", entity_ids=[first])).delivered == 2
        assert (await served.call("DropDeadLetters", entity_id=other, sequence_number=1)).dropped == 1
        assert (await served.call("DropDeadLetters", entity_id=other)).dropped == 1
        assert (await served.call("ListDeadLetters")).letters == []

    async def test_an_entity_without_any_is_no_fault(self, served):
        assert (await served.call("DropDeadLetters", entity_id="x")).dropped == 0
        assert (await served.call("RetryDeadLetters", entity_ids=["x"])).delivered == 0
        await served.call("DropDeadLetters", entity_id="")
        assert served.context.code is grpc.StatusCode.INVALID_ARGUMENT


class TestWaiting:
    async def processed(self, read_side: str | list[str], handled: bool) -> tuple[Context, Gateway]:
        class Processes(OneProcess):
            async def handled(self, read_side, shard, entity_id, revision, timeout):
                assert 0 < timeout <= 5
                return handled

        state = EntityState(Packed(b""), Meta(EntityId("a"), Revision(1)), Revision(1))
        gateway = Gateway(Accepted(state))
        one = await ingress(gateway)
        one._parts.read_sides = desk_of([READ_SIDE], None, Processes())
        names = [read_side] if isinstance(read_side, str) else read_side
        context = Context([("X-Cos-Wait-For", name) for name in names])
        await one.ProcessCommand(request(), context)
        return context, gateway

    async def test_a_reply_that_was_waited_for_says_nothing_of_it(self):
        context, _ = await self.processed(READ_SIDE, handled=True)
        assert (context.code, context.trailers) == (None, [])

    async def test_a_reply_that_could_not_wait_longer_is_ok_and_says_so(self):
        context, _ = await self.processed(READ_SIDE, handled=False)
        assert (context.code, context.trailers) == (None, [("x-cos-read-side-pending", READ_SIDE)])

    @pytest.mark.parametrize("names", ["nobody", "", [READ_SIDE, READ_SIDE]])
    async def test_one_that_cannot_be_waited_for_is_told_before_the_command_runs(self, names):
        context, gateway = await self.processed(names, handled=True)
        assert context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert gateway.commands == []
