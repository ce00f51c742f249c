"""How appends come to travel together, whoever carries them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import EventRefused, JournalUnavailable, OutcomeUnknown
from cos_ray.domain.ids import CommandId, EntityId, Offset, Revision, Shard
from cos_ray.postgres.group_commit import STEP_IN, Answer, BatchLimits, GroupCommit
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


async def test_an_unforeseen_error_leaves_the_outcome_unknown_and_others_alone(
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
    under_way = ask(group_commit, encoded("a"))
    await settle()
    waiting = ask(group_commit, encoded("b"))
    await settle()
    await group_commit.stop(timedelta(0))
    answers = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, JournalUnavailable]


async def reached(carrier: Carrier, batches: int) -> None:
    async with asyncio.timeout(5):
        while len(carrier.batches) < batches:
            await asyncio.sleep(0.005)


async def test_as_long_as_batches_come_back_soon_one_sender_takes_them_all() -> None:
    often, rarely = Carrier(), Carrier()
    often.let_go()
    group_commit = GroupCommit([often.send, rarely.send], BatchLimits())
    for number in range(20):
        await asyncio.gather(*ask(group_commit, *[encoded(f"e{n}", shard=n) for n in range(number)]))
    assert len(often.batches) >= 19
    assert rarely.batches == []
    await group_commit.stop(SOON)


async def test_beside_a_slow_batch_all_go_that_share_no_shard_with_it_and_the_others_after_it() -> None:
    slow, other = Carrier(), Carrier()
    group_commit = GroupCommit([slow.send, other.send], BatchLimits())
    tasks = ask(group_commit, encoded("a", shard=1), encoded("b", shard=2))
    await settle()
    held_up = [encoded("c", shard=2), encoded("d", shard=1), encoded("a", shard=1, expected=1)]
    tasks += ask(group_commit, held_up[0], encoded("x", shard=3), *held_up[1:], encoded("y", shard=4))
    await reached(other, 1)
    assert slow.names == [["a", "b"]]
    assert other.names == [["x", "y"]]
    other.let_go(1)
    tasks += ask(group_commit, encoded("z", shard=3))
    await reached(other, 2)
    assert other.names[1:] == [["z"]]
    slow.let_go()
    other.let_go()
    await asyncio.gather(*tasks)
    sent = [append for batch in slow.batches[1:] + other.batches[2:] for append in batch]
    assert sorted(map(id, sent)) == sorted(map(id, held_up))
    await group_commit.stop(SOON)


async def test_a_third_waits_until_one_of_two_slow_ones_is_back() -> None:
    first, second = Carrier(), Carrier()
    group_commit = GroupCommit([first.send, second.send], BatchLimits())
    tasks = ask(group_commit, encoded("a", shard=1))
    await reached(first, 1)
    tasks += ask(group_commit, encoded("b", shard=2))
    await reached(second, 1)
    tasks += ask(group_commit, encoded("c", shard=3))
    await settle()
    assert [*first.names, *second.names] == [["a"], ["b"]]
    second.let_go()
    await reached(second, 2)
    assert second.names == [["b"], ["c"]]
    first.let_go()
    await asyncio.gather(*tasks)
    await group_commit.stop(SOON)


async def test_closing_while_some_are_held_up_by_a_slow_batch_answers_them_too() -> None:
    slow, other = Carrier(), Carrier()
    group_commit = GroupCommit([slow.send, other.send], BatchLimits())
    under_way = ask(group_commit, encoded("a", shard=1))
    await reached(slow, 1)
    waiting = ask(group_commit, encoded("b", shard=1), encoded("x", shard=2))
    await reached(other, 1)
    await group_commit.stop(timedelta(0))
    answers = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, JournalUnavailable, OutcomeUnknown]
    assert group_commit.waiting == 0


@pytest.mark.parametrize("turns", range(8))
async def test_closing_at_any_moment_answers_everyone(turns: int) -> None:
    carrier = Carrier()
    group_commit = GroupCommit([carrier.send], BatchLimits())
    asked = ask(group_commit, encoded("a"), encoded("b"))
    for _ in range(turns):
        await asyncio.sleep(0)
    await group_commit.stop(timedelta(0))
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    never_sent = OutcomeUnknown if carrier.batches else JournalUnavailable
    assert [type(answer) for answer in answers] == [never_sent] * 2
    assert group_commit.waiting == 0


async def test_what_waits_for_a_slow_batch_is_not_overtaken_by_what_comes_later() -> None:
    slow, other = Carrier(), Carrier()
    group_commit = GroupCommit([slow.send, other.send], BatchLimits(events=2))
    tasks = ask(group_commit, encoded("slow", shard=1))
    await reached(slow, 1)
    tasks += ask(group_commit, encoded("early", shard=1), encoded("x", shard=2), encoded("y", shard=2))
    await reached(other, 1)
    tasks += ask(group_commit, *[encoded(f"late-{number}", shard=1) for number in range(4)])
    slow.let_go()
    other.let_go()
    await asyncio.gather(*tasks)
    of_shard = [a.entity_id for batch in slow.batches + other.batches for a in batch if a.shard == 1]
    assert of_shard == ["slow", "early", *(f"late-{number}" for number in range(4))]
    await group_commit.stop(SOON)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.0, 0.0, 0.001, STEP_IN * 1.5]), min_size=1, max_size=8),
)
async def test_whoever_is_slow_shards_never_meet_and_each_entity_keeps_its_order(
    wishes: list[tuple[int, int]], delays: list[float]
) -> None:
    taken: list[EncodedAppend] = []
    away: list[int] = []
    pace = itertools.cycle(delays)

    async def send(batch: Sequence[EncodedAppend]) -> Sequence[Answer]:
        shards = {append.shard for append in batch}
        assert not shards & set(away)
        away.extend(shards)
        taken.extend(batch)
        await asyncio.sleep(next(pace))
        for shard in shards:
            away.remove(shard)
        return [Offset(append.expected + 1) for append in batch]

    group_commit = GroupCommit([send, send], BatchLimits(events=5))
    numbers: Counter[str] = Counter()
    tasks = []
    for entity, shard in wishes:
        # An entity is in one shard for good.
        name = f"{entity}-{shard}"
        tasks += ask(group_commit, encoded(name, shard=shard, expected=numbers[name]))
        numbers[name] += 1
        if entity == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert len(taken) == len(wishes)
    for name, count in numbers.items():
        assert [append.expected for append in taken if append.entity_id == name] == list(range(count))
    await group_commit.stop(SOON)


async def test_an_append_that_waited_too_long_is_turned_away_and_never_sent(carrier: Carrier) -> None:
    too_long = timedelta(seconds=0.5)
    group_commit = GroupCommit([carrier.send], BatchLimits(waiting_time=too_long))
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
