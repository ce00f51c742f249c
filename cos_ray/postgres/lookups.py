"""Lets questions for the newest event travel together, one query at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.pages import Page
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.statements import statement

Row: TypeAlias = tuple[Revision, bytes]
"""A sequence number and its payload."""

_MOST_TOGETHER = 128


class NewestLookups:
    """
    Answers with the newest row of an entity.

    A question goes with the first query that starts after it was asked, never with one under way:
    the answer holds everything that was stored before the question.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._asked: dict[EntityId, asyncio.Future[Row | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def newest(self, entity_id: EntityId) -> Row | None:
        """The entity's newest row, None if it has none. Raises JournalUnavailable."""
        answer = self._asked.get(entity_id)
        if answer is None:
            answer = self._asked[entity_id] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._answer_all(), name="journal lookups")
        # Others may wait for the same answer.
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Let go; who still waits is told that the journal is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for answer in self._asked.values():
            _fail(answer, JournalUnavailable("the journal is closed"))
        self._asked.clear()

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                entity_ids = list(self._asked)[:_MOST_TOGETHER]
                answers = [self._asked.pop(entity_id) for entity_id in entity_ids]
                self._ask_again(await self._answer(entity_ids, answers))
        finally:
            self._task = None

    async def _answer(
        self, entity_ids: Sequence[EntityId], answers: Sequence[asyncio.Future[Row | None]]
    ) -> dict[EntityId, asyncio.Future[Row | None]]:
        """Answer those whose rows came; what is left did not fit in."""
        parameters = {"entity_ids": entity_ids, "limit": len(entity_ids)}
        try:
            rows: Page[Any] = await read_page(self._connections, statement("newest"), parameters)
        except BaseException as error:
            reason = error if isinstance(error, JournalUnavailable) else JournalUnavailable(repr(error))
            for answer in answers:
                _fail(answer, reason)
            if not isinstance(error, Exception):
                raise
            return {}
        found: dict[int, Row] = {}
        left: dict[EntityId, asyncio.Future[Row | None]] = {}
        for place, number, payload in rows:
            if payload is None:
                left[entity_ids[place - 1]] = answers[place - 1]
            else:
                found[place - 1] = (Revision(number), payload)
        for place, answer in enumerate(answers):
            if not answer.done() and entity_ids[place] not in left:
                answer.set_result(found.get(place))
        return left

    def _ask_again(self, left: dict[EntityId, asyncio.Future[Row | None]]) -> None:
        """Let these questions go with the next query; whoever has asked anew meanwhile shares its answer."""
        for entity_id, answer in left.items():
            newer = self._asked.setdefault(entity_id, answer)
            if newer is not answer:
                newer.add_done_callback(partial(_pass_on, answer))


def _pass_on(answer: asyncio.Future[Row | None], newer: asyncio.Future[Row | None]) -> None:
    if answer.done():
        return
    if newer.cancelled():
        answer.cancel()
    elif (reason := newer.exception()) is not None:
        answer.set_exception(reason)
        answer.exception()
    else:
        answer.set_result(newer.result())


def _fail(answer: asyncio.Future[Row | None], reason: JournalUnavailable) -> None:
    if not answer.done():
        answer.set_exception(reason)
        # Who asked may have left: then no one ever looks at it.
        answer.exception()
