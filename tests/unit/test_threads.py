"""Plain functions beside the event loop: none waits for ever, none is lost, whatever the others do."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from cos_ray.handlers.threads import Threads


@pytest.fixture
def released() -> threading.Event:
    return threading.Event()


async def test_each_caller_has_its_own_result() -> None:
    threads = Threads(4)
    results = await asyncio.gather(*(threads.run(lambda n=n: n * n) for n in range(1000)))
    assert results == [n * n for n in range(1000)]


async def test_functions_that_return_at_once_share_one_thread() -> None:
    threads, seen = Threads(32), set()
    for _ in range(200):
        seen.add(await threads.run(threading.get_ident))
    assert len(seen) == 1


async def test_one_that_hangs_holds_up_no_other(released: threading.Event) -> None:
    threads = Threads(4)
    hanging = [threads.run(released.wait) for _ in range(3)]
    others = asyncio.gather(*(threads.run(lambda n=n: n) for n in range(100)))
    assert await asyncio.wait_for(others, 10) == list(range(100))
    assert not any(future.done() for future in hanging)
    released.set()
    assert await asyncio.gather(*hanging) == [True] * 3


async def test_beyond_the_bound_functions_wait_in_order(released: threading.Event) -> None:
    threads, order = Threads(2), list[int]()
    hanging = [threads.run(released.wait) for _ in range(2)]
    waiting = [threads.run(lambda n=n: order.append(n)) for n in range(20)]
    # The watch has had time to send others, were there any.
    await asyncio.wait(waiting, timeout=0.05)
    assert order == []
    released.set()
    await asyncio.gather(*hanging, *waiting)
    assert sorted(order) == list(range(20))


async def test_a_function_cancelled_before_its_turn_does_not_run(released: threading.Event) -> None:
    threads, ran = Threads(1), list[int]()
    first = threads.run(released.wait)
    second = threads.run(lambda: ran.append(2))
    third = threads.run(lambda: ran.append(3))
    second.cancel()
    released.set()
    await asyncio.gather(first, third)
    assert ran == [3]


async def test_nothing_is_lost_among_quick_slow_and_cancelled_ones() -> None:
    threads, chance = Threads(8), random.Random(7)

    def function(number: int, takes: float) -> int:
        if takes:
            time.sleep(takes)
        return number

    async def client(first: int) -> None:
        for number in range(first, first + 200):
            takes = chance.choice([0, 0, 0, 0, 0, 0.0005, 0.003])
            future = threads.run(lambda number=number, takes=takes: function(number, takes))
            if chance.random() < 0.1:
                await asyncio.sleep(chance.choice([0, 0.001]))
                future.cancel()
            else:
                assert await future == number

    await asyncio.wait_for(asyncio.gather(*(client(1000 * number) for number in range(20))), 60)


@pytest.mark.parametrize("error", [ValueError("odd"), StopIteration(), SystemExit(1)])
async def test_a_function_that_raises_costs_no_thread(error: BaseException) -> None:
    threads = Threads(1)

    def fail() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(RuntimeError, match="must not raise"):
            await asyncio.wait_for(threads.run(fail), 5)
    assert await asyncio.wait_for(threads.run(lambda: 1), 5) == 1
