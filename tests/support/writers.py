"""Writers that go on through whatever happens, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from cos_ray.domain.errors import JournalUnavailable, OutcomeUnknown
from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.messages import Append
from cos_ray.ports import EventSource, Journal
from cos_ray.testing.history import faults_of_history
from tests.support.journal import append_of, read_all, until

AN_ANSWER_AT_LAST = 60.0
"""Seconds in which a journal has to say something, however bad things are."""


class Writers:
    """
    One writer for each of many entities, appending as fast as it is answered.

    What is said not to be stored is replaced by another event, which would conflict if it were;
    what nobody knows about is asked for again.
    """

    def __init__(self, journal: Journal, entities: int = 30, name: str = "w") -> None:
        self._journal = journal
        self.names = [f"{name}{n}" for n in range(entities)]
        self.acknowledged: list[tuple[Append, Offset]] = []
        self.denied: list[Append] = []
        self.unknown = 0
        self._finish = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(name)) for name in self.names]
        await self.get_on()
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish.set()
        if type_ is not None:
            for task in self._tasks:
                task.cancel()
        answers = await asyncio.gather(*self._tasks, return_exceptions=type_ is not None)
        assert type_ is not None or answers == [None] * len(self._tasks)

    async def get_on(self) -> None:
        """Wait until every entity has got on by two appends: the journal works, for each of them."""
        begun = len(self.acknowledged)

        async def everyone_got_on() -> bool:
            self._fail_early()
            names = [append.entity_id for append, _ in self.acknowledged[begun:]]
            return all(names.count(EntityId(name)) >= 2 for name in self.names)

        await until(everyone_got_on, within=AN_ANSWER_AT_LAST)

    async def are_turned_away(self, times: int = 1) -> None:
        """Wait until so many more appends were said not to be stored."""
        begun = len(self.denied)

        async def turned_away() -> bool:
            self._fail_early()
            return len(self.denied) >= begun + times

        await until(turned_away, within=AN_ANSWER_AT_LAST)

    async def faults(self, source: EventSource) -> Sequence[str]:
        """What is wrong with the history now that all have finished."""
        mine = set(self.names)
        history = [e for e in await read_all(source, page=1000) if e.envelope.meta.entity_id in mine]
        faults = faults_of_history(history, self.acknowledged, self.denied)
        asked_for = sum(len(append.envelopes) for append, _ in self.acknowledged)
        if len(history) != asked_for:
            faults.append(f"{len(history)} events are there, {asked_for} were acknowledged")
        return faults

    def _fail_early(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _write(self, name: str) -> None:
        at = 0
        while not self._finish.is_set():
            append = append_of(name, at, events=1 + at % 3)
            if (offset := await self._settled(append)) is not None:
                self.acknowledged.append((append, offset))
                at += len(append.envelopes)

    async def _settled(self, append: Append) -> Offset | None:
        """Where it lies; None if it certainly lies nowhere. No other answer will do."""
        in_doubt = False
        while True:
            try:
                return await asyncio.wait_for(self._journal.append(append), AN_ANSWER_AT_LAST)
            except OutcomeUnknown:
                # Asking again for the same is always safe.
                self.unknown += 1
                in_doubt = True
            except JournalUnavailable:
                if not in_doubt:
                    self.denied.append(append)
                    # A client would not come back at once either.
                    await asyncio.sleep(random.uniform(0.01, 0.05))
                    return None
