"""Lets questions for where entities stand travel together, one query at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, IdempotencyKey, Revision
from cos_ray.domain.messages import NewestRevision
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement

_MOST_TOGETHER = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    entity_id: EntityId
    key: IdempotencyKey | None
    answer: asyncio.Future[NewestRevision]


class NewestRevisions:
    """
    Every command that stores nothing asks one; all that come up while one query runs share the next.

    A question never goes with a query under way: the answer holds what was stored before the question.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._asked: list[_Question] = []
        self._task: asyncio.Task[None] | None = None

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """See `Journal.standing`."""
        loop = asyncio.get_running_loop()
        question = _Question(entity_id, key, loop.create_future())
        self._asked.append(question)
        if self._task is None:
            self._task = loop.create_task(self._answer_all(), name="journal standings")
        return await question.answer

    async def close(self) -> None:
        """Let go; who still waits is told that the journal is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _fail(self._asked, JournalUnavailable("the journal is closed"))
        self._asked = []

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                questions, self._asked = self._asked[:_MOST_TOGETHER], self._asked[_MOST_TOGETHER:]
                await self._answer([each for each in questions if not each.answer.done()])
        finally:
            self._task = None

    async def _answer(self, questions: Sequence[_Question]) -> None:
        columns = [[each.entity_id for each in questions], [each.key for each in questions]]
        try:
            rows = await self._connections.run(statement("standing"), columns)
        except BaseException as error:
            _fail(questions, error if isinstance(error, JournalUnavailable) else None)
            if not isinstance(error, Exception):
                raise
            return
        for question, (newest, key_is_known) in zip(questions, rows, strict=True):
            if not question.answer.done():
                question.answer.set_result(NewestRevision(Revision(newest), key_is_known))


def _fail(questions: Sequence[_Question], reason: JournalUnavailable | None) -> None:
    for question in questions:
        if not question.answer.done():
            # Each its own, for each raise marks what it raises.
            text = "the journal was left before it answered" if reason is None else str(reason)
            question.answer.set_exception(JournalUnavailable(text))
