"""How appends come to travel together, whoever carries them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import pytest

from cos_ray.domain.errors import EventRefused, JournalUnavailable, OutcomeUnknown
from cos_ray.domain.ids import CommandId, EntityId, Offset, Revision, Shard
from cos_ray.postgres.group_commit import Answer, BatchLimits, GroupCommit, lane_of
from cos_ray.postgres.rows import EncodedAppend

SOON = timedelta(seconds=5)


class Carrier:
    """Keeps each batch until it is let go; then answers by `answer`."""

    def __init__(self) -> None:
        self.batches: list[list[EncodedAppend]] = []
        self.answer: Callable[[EncodedAppend], Answer] = lambda append: Offset(append.expected + 1)
        self._gate = asyncio.Semaphore(0)

    async def send(self, batch: Sequence[EncodedAppend]) -> Sequence[Answer]:
        self.batches.append(list(batch))
        await self._gate.acquire()
        return [self.answer(append) for append in batch]

    def let_go(self, batches: int = 1_000) -> None:
        for _ in range(batches):
            self._gate.release()

    @property
    def names(self) -> list[list[str]]:
        return [[append.entity_id for append in batch] for batch in self.batches]


def encoded(
    entity: str, *, shard: int = 0, expected: int = 0, events: int = 1, octets: int = 1
) -> EncodedAppend:
    return EncodedAppend(
        EntityId(entity), Shard(shard), CommandId("c"), Revision(expected), (b"x",) * events, octets
    )


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
async def group_commit(carrier: Carrier) -> AsyncIterator[GroupCommit]:
    group_commit = GroupCommit([carrier.send], BatchLimits(events=10, octets=100, waiting_appends=30))
    group_commit.start()
    yield group_commit
    carrier.let_go()
    await group_commit.stop(SOON)


def ask(group_commit: GroupCommit, *appends: EncodedAppend) -> list[asyncio.Task[Offset]]:
    return [asyncio.create_task(group_commit.append(append)) for append in appends]


async def test_what_comes_while_a_batch_is_under_way_travels_together_in_the_next(
    group_commit: GroupCommit, carrier: Carrier
) -> None:
    tasks = ask(group_commit, encoded("a"))
    await settle()
    tasks += ask(group_commit, encoded("b"), encoded("c"))
    await settle()
    tasks += ask(group_commit, encoded("d"))
    await settle()
    assert carrier.names == [["a"]]
    carrier.let_go()
    await asyncio.gather(*tasks)
    assert carrier.names == [["a"], ["b", "c", "d"]]


async def test_appends_of_one_entity_go_one_after_the_other_in_order(
    group_commit: GroupCommit, carrier: Carrier
) -> None:
    tasks = ask(group_commit, *[encoded("a", expected=n) for n in range(4)], encoded("b"))
    carrier.let_go()
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 1]
    assert carrier.names == [["a", "b"], ["a"], ["a"], ["a"]]
    assert [batch[0].expected for batch in carrier.batches] == [0, 1, 2, 3]


async def test_a_busy_entity_does_not_push_others_back(group_commit: GroupCommit, carrier: Carrier) -> None:
    busy = ask(group_commit, *[encoded("busy", expected=n, events=6) for n in range(4)])
    tasks = busy + ask(group_commit, encoded("a", events=5), encoded("b", events=5))
    carrier.let_go()
    await asyncio.gather(*tasks)
    assert carrier.names[:2] == [["busy"], ["a", "b"]]


async def test_a_batch_is_bounded_by_events_and_by_bytes(group_commit: GroupCommit, carrier: Carrier) -> None:
    appends = [encoded(f"e{n}", events=4) for n in range(3)]
    appends += [encoded(f"f{n}", octets=50) for n in range(3)]
    appends += [encoded("huge", octets=1_000, events=99), encoded("last")]
    tasks = ask(group_commit, *appends)
    carrier.let_go()
    await asyncio.gather(*tasks)
    assert carrier.names == [["e0", "e1"], ["e2", "f0"], ["f1", "f2"], ["huge"], ["last"]]


async def test_when_too_much_waits_the_next_is_turned_away(
    group_commit: GroupCommit, carrier: Carrier
) -> None:
    tasks = ask(group_commit, *[encoded(f"e{n}") for n in range(30)])
    await settle()
    with pytest.raises(JournalUnavailable, match="too many"):
        await group_commit.append(encoded("one too many"))
    carrier.let_go()
    await asyncio.gather(*tasks)
    await group_commit.append(encoded("welcome"))


async def test_a_cancelled_append_is_not_sent_and_gives_its_place_free(
    group_commit: GroupCommit, carrier: Carrier
) -> None:
    first = ask(group_commit, encoded("first"))
    await settle()
    waiting = ask(group_commit, *[encoded(f"e{n}") for n in range(29)])
    await settle()
    for task in waiting[:20]:
        task.cancel()
    first[0].cancel()
    await settle()
    carrier.let_go()
    assert await asyncio.gather(*waiting[20:]) == [1] * 9
    assert carrier.names == [["first"], [f"e{n}" for n in range(20, 29)]]
    await asyncio.gather(*ask(group_commit, *[encoded(f"f{n}") for n in range(30)]))


async def test_each_append_gets_its_own_answer(group_commit: GroupCommit, carrier: Carrier) -> None:
    carrier.answer = lambda append: EventRefused("bad") if append.entity_id == "bad" else Offset(7)
    tasks = ask(group_commit, encoded("a"), encoded("bad"), encoded("b"))
    carrier.let_go()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, EventRefused, int]


async def test_an_unforeseen_error_leaves_the_outcome_unknown_and_the_lane_alive(
    group_commit: GroupCommit, carrier: Carrier
) -> None:
    def fail(append: EncodedAppend) -> Answer:
        raise ZeroDivisionError

    carrier.let_go()
    carrier.answer = fail
    with pytest.raises(OutcomeUnknown):
        await group_commit.append(encoded("a"))
    carrier.answer = lambda append: Offset(3)
    assert await group_commit.append(encoded("a")) == 3


async def test_closing_in_the_middle_says_of_each_what_is_known() -> None:
    carrier = Carrier()
    group_commit = GroupCommit([carrier.send], BatchLimits())
    group_commit.start()
    under_way = ask(group_commit, encoded("a"))
    await settle()
    waiting = ask(group_commit, encoded("b"))
    await settle()
    await group_commit.stop(timedelta(0))
    answers = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, JournalUnavailable]


async def test_lanes_send_side_by_side_and_never_share_a_shard() -> None:
    carriers = [Carrier(), Carrier()]
    group_commit = GroupCommit([carrier.send for carrier in carriers], BatchLimits())
    group_commit.start()
    tasks = ask(group_commit, *[encoded(f"e{n}", shard=n) for n in range(64)])
    await settle()
    shards = [{append.shard for append in carrier.batches[0]} for carrier in carriers]
    assert shards[0] | shards[1] == set(range(64))
    assert not shards[0] & shards[1]
    for carrier in carriers:
        carrier.let_go()
    await asyncio.gather(*tasks)
    await group_commit.stop(SOON)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8])
def test_lanes_share_the_work_whichever_shards_a_process_has(step: int) -> None:
    lanes = [lane_of(Shard(n * step), 2) for n in range(16)]
    assert 5 <= sum(lanes) <= 11


async def test_an_append_that_waited_too_long_is_turned_away_and_never_sent(carrier: Carrier) -> None:
    too_long = timedelta(seconds=0.5)
    group_commit = GroupCommit([carrier.send], BatchLimits(waiting_time=too_long))
    group_commit.start()
    under_way = ask(group_commit, encoded("a"))
    await settle()
    waiting = ask(group_commit, *[encoded("b", expected=n) for n in range(3)], encoded("c"))
    await settle()
    asked_at = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() <= asked_at + too_long.total_seconds():
        await asyncio.sleep(0.01)
    carrier.let_go()
    answers = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int] + [JournalUnavailable] * 4
    assert carrier.names == [["a"]]
    await group_commit.stop(SOON)
