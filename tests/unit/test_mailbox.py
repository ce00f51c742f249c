"""Turns: in order, bounded, given back, and left."""

from __future__ import annotations

import asyncio

import pytest

from cos_ray.domain.errors import MailboxFull, OutOfTime, Withdrawn
from cos_ray.domain.ids import CommandId
from cos_ray.writeside.mailbox import Mailbox


class Visitors:
    """Commands that hold their turn until told to go."""

    def __init__(self, capacity: int = 10) -> None:
        self.mailbox = Mailbox(capacity)
        self.began: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}

    async def visit(self, name: str, within: float = 60.0) -> None:
        door = self.doors[name] = asyncio.Event()
        async with self.mailbox.turn(CommandId(name), within):
            self.began.append(name)
            await door.wait()

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.visit(name)) for name in names]
        await settle()
        return tasks


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_turns_come_in_the_order_of_arrival_and_one_at_a_time() -> None:
    visitors = Visitors()
    tasks = await visitors.come("a", "b", "c")
    for name, sofar in (("a", ["a"]), ("b", ["a", "b"]), ("c", ["a", "b", "c"])):
        assert visitors.began == sofar
        visitors.doors[name].set()
        await settle()
    await asyncio.gather(*tasks)
    assert visitors.mailbox.waiting == 0


async def test_who_finds_it_full_is_turned_away_at_once() -> None:
    visitors = Visitors(capacity=1)
    await visitors.come("a", "b")
    with pytest.raises(MailboxFull):
        await visitors.visit("c")
    visitors.doors["a"].set()
    await settle()
    await visitors.come("d")
    assert visitors.mailbox.waiting == 1


async def test_who_waits_too_long_leaves_and_makes_room() -> None:
    visitors = Visitors(capacity=1)
    await visitors.come("a")
    with pytest.raises(OutOfTime):
        await visitors.visit("b", within=0.001)
    assert visitors.mailbox.waiting == 0
    await visitors.come("c")
    visitors.doors["a"].set()
    await settle()
    assert visitors.began == ["a", "c"]


async def test_what_is_withdrawn_while_it_waits_never_begins() -> None:
    visitors = Visitors()
    tasks = await visitors.come("a", "b", "c")
    visitors.mailbox.withdraw(CommandId("b"))
    with pytest.raises(Withdrawn):
        await tasks[1]
    visitors.doors["a"].set()
    await settle()
    assert visitors.began == ["a", "c"]


async def test_what_has_begun_is_not_withdrawn() -> None:
    visitors = Visitors()
    (task,) = await visitors.come("a")
    visitors.mailbox.withdraw(CommandId("a"))
    visitors.doors["a"].set()
    await task


async def test_who_is_cancelled_while_waiting_leaves_the_others_their_turns() -> None:
    visitors = Visitors()
    tasks = await visitors.come("a", "b", "c")
    tasks[1].cancel()
    visitors.doors["a"].set()
    await settle()
    assert visitors.began == ["a", "c"]


async def test_a_turn_that_comes_to_one_being_cancelled_goes_on_to_the_next() -> None:
    visitors = Visitors()
    tasks = await visitors.come("a", "b", "c")
    visitors.doors["a"].set()
    # b gets its turn while it is cancelled, before it could run.
    while visitors.mailbox.waiting == 2:
        await asyncio.sleep(0)
    tasks[1].cancel()
    await settle()
    assert visitors.began == ["a", "c"]
    visitors.doors["c"].set()
    await settle()
    await visitors.come("d")
    assert visitors.began[-1] == "d"


async def test_no_one_slips_in_between_two_turns() -> None:
    visitors = Visitors()
    await visitors.come("a", "b")
    visitors.doors["a"].set()
    while visitors.mailbox.waiting == 1:
        await asyncio.sleep(0)
    await visitors.come("late")
    assert visitors.began == ["a", "b"]
