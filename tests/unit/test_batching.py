"""Many commands in one call: who gets which reply, when, and what becomes of them when the line breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count

import pytest

from cos_ray.domain.errors import Code, EntityLost, EntityNotReached, Status
from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Command, Packed, Refused, Reply, TryElsewhere
from cos_ray.transport import batching
from cos_ray.transport.batching import CALLS_OUT, Batch, BatchingClient, BatchingServer, BatchReply
from cos_ray.transport.host_reply import HostReply

serials = count(1)


def command(text: str = "", budget: float = 5.0) -> Command:
    return Command(EntityId("a"), Packed(text.encode()), CommandId(f"c{next(serials)}"), budget)


def reply_to(command: Command) -> Reply:
    """A reply that is no other command's."""
    return Refused(Status(Code.OK, command.command_id))


class Host:
    """The other side: commands take as long as the test says, and calls are counted."""

    def __init__(self) -> None:
        self.gates: dict[bytes, asyncio.Event] = {}
        self.begun: list[Command] = []
        self.withdrawn: list[CommandId] = []
        self.batches: list[Batch] = []
        self.out = 0
        self.most_out = 0
        self.server = BatchingServer(self._process, lambda _, command_id: self.withdrawn.append(command_id))
        self.fault: Exception | None = None

    async def _process(self, command: Command) -> HostReply:
        self.begun.append(command)
        if (gate := self.gates.get(command.payload)) is not None:
            await gate.wait()
        if command.payload == b"breaks":
            raise RuntimeError("a fault of ours")
        return reply_to(command)

    async def call(self, batch: Batch) -> BatchReply:
        self.batches.append(batch)
        self.out += 1
        self.most_out = max(self.out, self.most_out)
        try:
            await asyncio.sleep(0)
            if self.fault is not None:
                raise self.fault
            return await self.server.exchange("line", batch)
        finally:
            self.out -= 1

    def hold(self, text: str) -> asyncio.Event:
        gate = self.gates[text.encode()] = asyncio.Event()
        return gate


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def line(host: Host) -> BatchingClient:
    return BatchingClient(host.call, lambda: None)


async def until(is_true: Callable[[], object]) -> None:
    async def wait() -> None:
        while not is_true():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 5)


async def in_time(reply: Awaitable[HostReply]) -> HostReply:
    return await asyncio.wait_for(reply, 5)


async def test_every_command_gets_its_own_reply(line: BatchingClient) -> None:
    commands = [command(str(number)) for number in range(500)]
    replies = await asyncio.gather(*(in_time(line.ask(each)) for each in commands))
    assert replies == [reply_to(each) for each in commands]
    assert line.waiting == 0


async def test_commands_that_come_together_travel_together(host: Host, line: BatchingClient) -> None:
    await asyncio.gather(*(in_time(line.ask(command())) for _ in range(500)))
    assert len(host.batches) < 20
    assert host.most_out <= CALLS_OUT


async def test_a_slow_command_holds_up_no_other(host: Host, line: BatchingClient) -> None:
    gate = host.hold("slow")
    slow = [asyncio.ensure_future(line.ask(command("slow"))) for _ in range(5)]
    for _ in range(20):
        await in_time(line.ask(command("quick")))
    assert not any(each.done() for each in slow)
    gate.set()
    await asyncio.gather(*map(in_time, slow))


async def test_a_lone_slow_command_is_answered_by_a_later_call_than_brought_it(
    host: Host, line: BatchingClient
) -> None:
    gate = host.hold("slow")
    slow = asyncio.ensure_future(line.ask(command("slow")))
    await until(lambda: len(host.batches) >= 3)  # calls return without replies now and then
    assert not slow.done()
    gate.set()
    await in_time(slow)


async def test_a_lost_call_loses_all_that_wait_and_the_line_goes_on_after_it(
    host: Host, line: BatchingClient
) -> None:
    host.fault = EntityLost("the process is gone")
    lost = await asyncio.gather(*(line.ask(command()) for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in lost] == ["the process is gone"] * 3
    host.fault = None
    assert await in_time(line.ask(again := command())) == reply_to(again)


async def test_a_fault_of_ours_on_the_way_leaves_no_one_waiting(host: Host, line: BatchingClient) -> None:
    host.fault = RuntimeError("unforeseen")
    with pytest.raises(EntityLost, match="unforeseen"):
        await in_time(line.ask(command()))


async def test_a_command_that_breaks_the_host_is_to_be_looked_up(line: BatchingClient) -> None:
    assert await in_time(line.ask(command("breaks"))) == TryElsewhere(maybe_stored=True)


async def test_who_leaves_takes_the_command_back(host: Host, line: BatchingClient) -> None:
    gate = host.hold("slow")
    leaving = command("slow")
    asking = asyncio.ensure_future(line.ask(leaving))
    await until(lambda: host.begun)
    asking.cancel()
    await until(lambda: host.withdrawn == [leaving.command_id])
    gate.set()
    assert line.waiting == 0


async def test_a_command_withdrawn_before_it_left_is_never_sent(host: Host, line: BatchingClient) -> None:
    asking = asyncio.ensure_future(line.ask(command("early")))
    await asyncio.sleep(0)
    asking.cancel()
    await in_time(line.ask(command("late")))
    assert [each.payload for each in host.begun] == [b"late"]


async def test_commands_that_never_left_are_not_said_to_be_lost(host: Host, line: BatchingClient) -> None:
    gate = host.hold("slow")
    sent = asyncio.ensure_future(line.ask(command("slow")))
    await until(lambda: host.begun)
    host.fault = EntityNotReached("the process has gone")
    with pytest.raises(EntityNotReached):
        await in_time(line.ask(command("late")))
    # Its call is still out, and brings the reply.
    host.fault = None
    gate.set()
    assert isinstance(await in_time(sent), Refused)
    assert [each.payload for each in host.begun] == [b"slow"]


async def test_what_was_sent_is_lost_when_the_other_side_is_not_reached_any_more(
    host: Host, line: BatchingClient
) -> None:
    host.hold("slow")
    sent = asyncio.ensure_future(line.ask(command("slow")))
    await until(lambda: host.begun)
    host.fault = EntityNotReached("the process has gone")
    with pytest.raises(EntityLost) as lost:
        await in_time(sent)
    assert lost.type is EntityLost


async def test_the_first_calls_to_a_process_may_return_in_any_order() -> None:
    host, gates = Host(), [asyncio.Event(), asyncio.Event()]
    calls = count()

    async def call(batch: Batch) -> BatchReply:
        number = next(calls)
        answer = await host.server.exchange("line", batch)
        if number < len(gates):
            await gates[number].wait()
        return answer

    line = BatchingClient(call, lambda: None)
    first = asyncio.ensure_future(line.ask(command("first")))
    await until(lambda: host.begun)
    second = asyncio.ensure_future(line.ask(command("second")))
    await until(lambda: len(host.begun) == 2)
    gates[1].set()
    await in_time(second)
    gates[0].set()
    await in_time(first)


async def test_an_abandoned_line_tells_all_that_wait(host: Host, line: BatchingClient) -> None:
    host.hold("slow")
    asking = asyncio.ensure_future(line.ask(command("slow")))
    await until(lambda: host.begun)
    line.abandon("given up")
    with pytest.raises(EntityLost, match="given up"):
        await in_time(asking)


async def test_of_a_host_that_is_silent_it_is_told_until_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "SILENCE", 0.005)
    told = 0

    async def never_returns(_: Batch) -> BatchReply:
        await asyncio.Event().wait()
        raise AssertionError

    def tell() -> None:
        nonlocal told
        told += 1
        if told == 5:
            # What the one who is told learns in the end.
            line.abandon("given up")

    line = BatchingClient(never_returns, tell)
    with pytest.raises(EntityLost, match="given up"):
        await line.ask(command(budget=60))
    assert told == 5


async def test_the_time_spent_waiting_for_a_call_is_taken_off_the_budget(
    host: Host, line: BatchingClient
) -> None:
    for _ in range(3):
        await in_time(line.ask(command(budget=5.0)))
    assert all(each.budget <= 5.0 for each in host.begun)


async def test_two_lines_at_one_desk_get_each_their_own(host: Host) -> None:
    async def call_of(origin: str, batch: Batch) -> BatchReply:
        return await host.server.exchange(origin, batch)

    lines = [
        BatchingClient(lambda batch, origin=origin: call_of(origin, batch), lambda: None) for origin in "ab"
    ]  # type: ignore[misc]
    commands = [[command() for _ in range(50)] for _ in lines]
    replies = await asyncio.gather(
        *(in_time(line.ask(each)) for line, mine in zip(lines, commands, strict=True) for each in mine)
    )
    assert replies == [reply_to(each) for mine in commands for each in mine]
    assert host.server.in_progress == 0
    await asyncio.wait_for(host.server.emptied(), 5)


async def test_the_same_command_sent_twice_is_answered_twice(host: Host, line: BatchingClient) -> None:
    first = command("again")
    assert await in_time(line.ask(first)) == reply_to(first)
    assert await in_time(line.ask(replace(first, maybe_stored=True))) == reply_to(first)


async def test_what_a_lost_errand_led_to_is_not_the_reply_to_the_next_one(
    host: Host, line: BatchingClient
) -> None:
    first, second = command("first"), command("second")
    gates = host.hold("first"), host.hold("second")
    lost = asyncio.ensure_future(line.ask(first))
    await until(lambda: host.begun)
    line.abandon("the connection was cut; the process lives on")
    with pytest.raises(EntityLost):
        await in_time(lost)
    # The same command again; what it led to before may be refused, and what it leads to now be stored.
    again = asyncio.ensure_future(line.ask(replace(first, payload=second.payload, maybe_stored=True)))
    await until(lambda: len(host.begun) == 2)
    gates[0].set()
    assert await in_time(line.ask(other := command())) == reply_to(other)
    assert not again.done()
    gates[1].set()
    await in_time(again)


async def test_a_desk_that_no_one_comes_to_any_more_counts_as_empty(
    host: Host, line: BatchingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "FETCHED_WITHIN", 0.01)
    await host.server.exchange("gone", Batch([(1, command("quick"))]))
    gate = host.hold("slow")
    resting = asyncio.ensure_future(host.server.exchange("gone", Batch([(2, command("slow"))])))
    await until(lambda: len(host.begun) == 2)
    resting.cancel()
    gate.set()
    await asyncio.wait_for(host.server.emptied(), 5)


async def test_replies_that_no_one_fetches_are_dropped_when_their_time_is_over(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "REST", 0.01)
    monkeypatch.setattr(batching, "GRACE", 0.05)
    monkeypatch.setattr(batching, "FETCHED_WITHIN", 0.05)
    gate = host.hold("slow")
    batches = [Batch([(number, command("slow", budget=1.0)) for number in range(20)]) for _ in range(50)]
    answers = [host.server.exchange(f"gone {number}", batch) for number, batch in enumerate(batches)]
    # The calls return, and nobody comes for what is ready later.
    assert not any(answer.replies for answer in await asyncio.gather(*answers))
    gate.set()
    await until(lambda: not host.server.in_progress)
    assert host.server.unfetched
    await until(lambda: not host.server.unfetched)
    # Nor is anything left of those who asked.
    assert vars(host.server)["_counters"] == {}


async def test_a_reply_is_kept_for_as_long_as_its_command_may_take(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "REST", 0.01)
    monkeypatch.setattr(batching, "FETCHED_WITHIN", 0.05)
    gate = host.hold("slow")
    short, long = command("slow", budget=0.01), command("slow", budget=30.0)
    for request_id, each in enumerate((short, long)):
        await host.server.exchange("line", Batch([(request_id, each)]))
    gate.set()
    await until(lambda: host.server.unfetched == 2)
    await asyncio.sleep(0.4)  # longer than the short one is kept by itself
    answer = await host.server.exchange("line", Batch([]))
    assert {request_id for request_id, _ in answer.replies} == {0, 1}
