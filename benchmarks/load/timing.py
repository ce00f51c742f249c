"""How requests are timed: a fixed number in flight, or a fixed rate whatever the answers do."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from benchmarks.load.http2 import Connection, Failure, Outcome, Request


@dataclass(slots=True)
class Tally:
    """What came of the requests of one measurement."""

    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds, of those that succeeded."""
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, begun: float, outcome: Outcome) -> None:
        """Note one answer."""
        if isinstance(outcome, Failure):
            self.failures[outcome.reason[:200]] += 1
        else:
            self.latencies.append(perf_counter() - begun)


async def in_flight(
    connections: Sequence[Connection], next_request: Callable[[], Request | None], count: int, seconds: float
) -> Tally:
    """
    Keep `count` requests under way for so many seconds, or until there is none left.

    Only what was answered within the time counts, and the time ends with it.
    """
    tally = Tally()
    finished = asyncio.get_running_loop().create_future()
    under_way, begun_at = 0, perf_counter()
    until = begun_at + seconds

    def send(connection: Connection) -> None:
        nonlocal under_way
        begun = perf_counter()
        request = next_request() if begun < until else None
        if request is None:
            if not under_way and not finished.done():
                finished.set_result(None)
            return
        under_way += 1

        def on_reply(outcome: Outcome) -> None:
            nonlocal under_way
            under_way -= 1
            now = perf_counter()
            if now <= until:
                tally.add(begun, outcome)
                tally.seconds = now - begun_at
            if isinstance(outcome, Failure):
                # Not at once: what fails immediately would be asked for without end.
                asyncio.get_running_loop().call_later(0.01, send, connection)
            else:
                send(connection)

        connection.request(request, on_reply)

    for number in range(count):
        send(connections[number % len(connections)])
    await finished
    return tally


async def at_rate(
    connections: Sequence[Connection], next_request: Callable[[], Request | None], rate: float, seconds: float
) -> Tally:
    """
    Send `rate` requests per second at even distances, however slow the answers are.

    Each is timed from when it was due, not from when it could be sent: a standstill of the
    service counts for all requests that fall into it.
    """
    loop = asyncio.get_running_loop()
    tally, begun_at = Tally(), perf_counter()
    answers: list[asyncio.Future[None]] = []
    for number in range(int(rate * seconds)):
        due = begun_at + number / rate
        # Late ones go out together, without a pause.
        if (wait := due - perf_counter()) > 0.0005:
            await asyncio.sleep(wait)
        request = next_request()
        if request is None:
            break
        answers.append(answered := loop.create_future())
        on_reply = partial(_note, tally, due, answered)
        connections[number % len(connections)].request(request, on_reply)
    await asyncio.wait_for(asyncio.gather(*answers), 60)
    tally.seconds = perf_counter() - begun_at
    return tally


def _note(tally: Tally, due: float, answered: asyncio.Future[None], outcome: Outcome) -> None:
    tally.add(due, outcome)
    answered.set_result(None)
