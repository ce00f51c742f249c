"""
Takes batches of appends to the journal, and does not let go before their fate is known.

A try ends in one of three ways: answered, refused (nothing was stored), or lost with the
connection. After a loss the same bytes are sent again, for they tell what was stored: the journal
knows them again and lands nothing twice. Only when that stays impossible is the outcome unknown.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from typing_extensions import LiteralString, assert_never

from cos_ray.domain.errors import (
    CosError,
    EventRefused,
    JournalUnavailable,
    KeyKnown,
    OutcomeUnknown,
    RevisionConflict,
)
from cos_ray.domain.ids import Offset, Shard
from cos_ray.postgres.database import CALL_LIMIT, Database, one_line
from cos_ray.postgres.dedicated_connection import DedicatedConnection
from cos_ray.postgres.error_classes import FAILURES, Meaning, may_be_of_session, meaning_of
from cos_ray.postgres.group_commit import Answer
from cos_ray.postgres.refusal_log import refusals
from cos_ray.postgres.rows import EncodedAppend, columns, key_column
from cos_ray.postgres.statements import statement

logger = logging.getLogger(__name__)

CONNECT_WITHIN = timedelta(seconds=2)
"""How long a batch waits for a connection before it is turned away."""

SETTLE_WITHIN = timedelta(seconds=10)
"""
How long a lost batch is asked about. Longer than a statement may run; but no limit ends a commit that
waits for a standby, and that one may land later.
"""

KEY_TTL = timedelta(hours=24)
"""How long an idempotency key is remembered."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_SHORTEST_CALL = 1.0

_MOST_BLOCKED = 3
"""So many waits for a shard's lock a batch puts up with; one to learn of it, one to find out which."""

_PASSING = frozenset({Meaning.LOST, Meaning.TORN})
"""Tried again, or told as what became of the append."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try without an answer."""

    meaning: Meaning
    reason: str


@dataclass(slots=True)
class _Group:
    """Appends that are tried together, by their places in the batch."""

    places: list[int]
    losses: int = 0
    settle_until: float = math.inf
    """When to stop asking, once there was a loss."""


class Writer:
    """A way to the journal, over a connection of its own; one batch at a time."""

    def __init__(
        self,
        database: Database,
        settle_within: timedelta = SETTLE_WITHIN,
        key_ttl: timedelta = KEY_TTL,
    ) -> None:
        self._line = DedicatedConnection(database)
        self._key_ttl = key_ttl
        self._settle_within = settle_within.total_seconds()

    async def close(self) -> None:
        """Close the connection."""
        await self._line.drop()

    async def store(self, batch: Sequence[EncodedAppend]) -> Sequence[Answer]:
        """Append each or find out why not; one answer per append, in order. Raises nothing foreseen."""
        answers: dict[int, Answer] = {}
        groups = deque([_Group(list(range(len(batch))))])
        pause, blocked = _FIRST_PAUSE, 0
        while groups:
            group = groups.popleft()
            if blocked >= _MOST_BLOCKED and not group.losses:
                turned_away = JournalUnavailable("the locks of several shards are held by others")
                answers.update(dict.fromkeys(group.places, turned_away))
                continue
            tried = await self._try([batch[place] for place in group.places], group.settle_until)
            if not isinstance(tried, _Failure):
                answers.update(zip(group.places, tried, strict=True))
                continue
            if tried.meaning is Meaning.LOST and group.losses == 0:
                logger.warning("connection lost during an append", extra={"reason": tried.reason})
                group.settle_until = time.monotonic() + self._settle_within
            blocked += tried.meaning is Meaning.BLOCKED
            verdict = _judge(group, tried, [batch[place].shard for place in group.places])
            if isinstance(verdict, CosError):
                answers.update(dict.fromkeys(group.places, verdict))
            elif time.monotonic() + pause >= group.settle_until:
                unknown = OutcomeUnknown(f"the journal was lost during an append: {tried.reason}")
                answers.update(dict.fromkeys(group.places, unknown))
            else:
                groups.extend(verdict)
                if group.losses:
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, _LONGEST_PAUSE)
        return [answers[place] for place in range(len(batch))]

    async def _try(
        self, appends: Sequence[EncodedAppend], settle_until: float
    ) -> Sequence[Answer] | _Failure:
        in_doubt = settle_until < math.inf
        try:
            # In doubt, the pauses between tries are the caller's.
            connection = await self._line.connection(timedelta(0) if in_doubt else CONNECT_WITHIN)
        except JournalUnavailable as error:
            return _Failure(Meaning.REFUSED, str(error))
        limit = max(_SHORTEST_CALL, min(CALL_LIMIT.total_seconds(), settle_until - time.monotonic()))
        try:
            rows = await self._line.call(*self._call(appends), timedelta(seconds=limit))
        except FAILURES as error:
            meaning = meaning_of(error, connection)
            if meaning not in _PASSING:
                refusals.note("the database refuses an append", error)
            if may_be_of_session(error, meaning):
                await self._line.drop()
            return _Failure(meaning, one_line(error))
        except BaseException:
            # Cancelled, say: what the connection is in the middle of is no one else's business.
            await self._line.drop()
            raise
        return [_answer(append, outcome, last) for append, (outcome, last) in zip(appends, rows, strict=True)]

    def _call(self, appends: Sequence[EncodedAppend]) -> tuple[LiteralString, list[object]]:
        """One statement for all; who has no key pays nothing for those who have."""
        events: list[object] = [*columns(appends)]
        if all(append.key is None for append in appends):
            return statement("append"), events
        return statement("append_with_keys"), [*events, key_column(appends), self._key_ttl]


def _judge(group: _Group, failure: _Failure, shards: Sequence[Shard]) -> CosError | list[_Group]:
    """What a try without an answer means for its appends, of these shards: an end, or what to try next."""
    alone = len(group.places) == 1
    match failure.meaning:
        case Meaning.LOST:
            group.losses += 1
            # One of them may be what broke the server: the others must not go down with it.
            return [group] if group.losses < 2 or alone else _apart(group)
        case Meaning.BAD_DATA | Meaning.TORN if not alone:
            return _apart(group)
        case Meaning.BAD_DATA:
            return EventRefused(failure.reason)
        case Meaning.BLOCKED if len(set(shards)) > 1:
            return _by_shard(group, shards)
        case Meaning.REFUSED | Meaning.NOT_HERE | Meaning.TORN | Meaning.BLOCKED:
            # The refusal is about this try; an earlier one that was lost may have been carried out.
            return [group] if group.losses else JournalUnavailable(failure.reason)
        case unreachable:
            assert_never(unreachable)


def _apart(group: _Group) -> list[_Group]:
    return [_Group([place], group.losses, group.settle_until) for place in group.places]


def _by_shard(group: _Group, shards: Sequence[Shard]) -> list[_Group]:
    places: dict[Shard, list[int]] = {}
    for place, shard in zip(group.places, shards, strict=True):
        places.setdefault(shard, []).append(place)
    return [_Group(theirs, group.losses, group.settle_until) for theirs in places.values()]


def _answer(append: EncodedAppend, outcome: str, last_ordering: int | None) -> Answer:
    if outcome in ("L", "A"):
        return Offset(last_ordering or 0)
    if outcome == "K":
        return KeyKnown(append.entity_id)
    return RevisionConflict(append.entity_id, append.expected)
