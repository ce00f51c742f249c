"""What holds of every journal's idempotency keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import EventRefused, KeyKnown, RevisionConflict
from cos_ray.domain.ids import EntityId, IdempotencyKey, Revision
from cos_ray.domain.messages import Append, NewestRevision, Remembered
from tests.contracts.conftest import AnyJournal
from tests.support.journal import append_of, read_all

A = EntityId("a")
KEY = IdempotencyKey("k")

_examples = count(1)


def keyed(key: str, entity: str, expected: int, events: int = 1) -> Append:
    """An append with a key; of no events, if that is wanted."""
    append = replace(append_of(entity, expected, max(1, events)), key=IdempotencyKey(key))
    return append if events else replace(append, envelopes=())


async def test_a_key_is_remembered_with_the_last_event_of_its_command(journal: AnyJournal) -> None:
    append = keyed("k", "a", 0, events=3)
    await journal.append(append)
    await journal.append(append_of("a", 3))
    assert await journal.remembered(A, KEY) == Remembered(3, append.envelopes[-1])  # type: ignore[arg-type]


async def test_an_unknown_key_is_not_remembered(journal: AnyJournal) -> None:
    await journal.append(keyed("k", "a", 0))
    assert await journal.remembered(A, IdempotencyKey("K")) is None
    assert await journal.remembered(EntityId("b"), KEY) is None
    for no_id in ("", "x" * 256, "a\0b"):
        assert await journal.remembered(EntityId(no_id), KEY) is None
        assert list(await journal.keys(EntityId(no_id), 10)) == []
    for no_key in ("", "k" * 129, "k\0"):
        assert await journal.remembered(A, IdempotencyKey(no_key)) is None


async def test_where_an_entity_stands_is_said_with_whether_a_key_is_known(journal: AnyJournal) -> None:
    assert await journal.standing(A, KEY) == NewestRevision(Revision(0), key_is_known=False)
    await journal.append(keyed("k", "a", 0, events=3))
    await journal.append(append_of("a", 3))
    await journal.append(keyed("no-op", "a", 4, events=0))
    asked = [
        (A, None),
        (A, KEY),
        (A, IdempotencyKey("no-op")),
        (A, IdempotencyKey("K")),
        (EntityId("b"), KEY),
    ]
    asked += [(EntityId(no_id), KEY) for no_id in ("", "x" * 256, "a\0b")]
    found = await asyncio.gather(*(journal.standing(entity_id, key) for entity_id, key in asked * 40))
    known = [(4, False), (4, True), (4, True), (4, False), (0, False)] + [(0, False)] * 3
    assert [(each.newest, each.key_is_known) for each in found] == known * 40


async def test_a_key_that_has_expired_is_not_known(
    journal: AnyJournal, expire_keys: Callable[[], None]
) -> None:
    await journal.append(keyed("k", "a", 0))
    expire_keys()
    assert await journal.standing(A, KEY) == NewestRevision(Revision(1), key_is_known=False)


async def test_the_keys_of_an_entity_are_its_own(journal: AnyJournal) -> None:
    for number, key in enumerate(["x", "y", "z"]):
        await journal.append(keyed(key, "a", number))
    await journal.append(keyed("x", "b", 0))
    assert sorted(await journal.keys(A, 10)) == ["x", "y", "z"]
    assert len(await journal.keys(A, 2)) == 2
    assert list(await journal.keys(EntityId("b"), 10)) == ["x"]


async def test_an_append_with_a_known_key_stores_nothing(journal: AnyJournal) -> None:
    first = keyed("k", "a", 0, events=2)
    await journal.append(first)
    for again in (first, keyed("k", "a", 2), keyed("k", "a", 0), keyed("k", "a", 2, events=0)):
        with pytest.raises(KeyKnown) as caught:
            await journal.append(again)
        assert caught.value.entity_id == A
    assert len(await read_all(journal)) == 2
    assert await journal.remembered(A, KEY) == Remembered(2, first.envelopes[-1])  # type: ignore[arg-type]


async def test_a_command_without_events_is_remembered_by_its_key(journal: AnyJournal) -> None:
    before = keyed("before", "a", 0, events=0)
    assert await journal.append(before) == 0
    events = append_of("a", 0, events=2)
    await journal.append(events)
    assert await journal.append(keyed("after", "a", 2, events=0)) == 0
    assert await journal.remembered(A, IdempotencyKey("before")) == Remembered(0, None)  # type: ignore[arg-type]
    after = await journal.remembered(A, IdempotencyKey("after"))
    assert after == Remembered(2, events.envelopes[-1])  # type: ignore[arg-type]
    assert len(await read_all(journal)) == 2


@pytest.mark.parametrize("events", [0, 2])
async def test_a_conflict_does_not_use_up_the_key(journal: AnyJournal, events: int) -> None:
    await journal.append(append_of("a", 0, events=2))
    for expected in (0, 1, 3):
        with pytest.raises(RevisionConflict):
            await journal.append(keyed("k", "a", expected, events))
    assert await journal.remembered(A, KEY) is None
    await journal.append(keyed("k", "a", 2, events))
    assert len(await read_all(journal)) == 2 + events


async def test_an_append_with_neither_events_nor_a_key_is_refused(journal: AnyJournal) -> None:
    with pytest.raises(EventRefused):
        await journal.append(replace(append_of("a", 0), envelopes=()))


async def test_an_expired_key_is_new(journal: AnyJournal, expire_keys: Callable[[], None]) -> None:
    await journal.append(keyed("k", "a", 0))
    expire_keys()
    assert await journal.remembered(A, KEY) is None
    assert list(await journal.keys(A, 10)) == []
    second = keyed("k", "a", 1)
    await journal.append(second)
    assert await journal.remembered(A, KEY) == Remembered(2, second.envelopes[-1])  # type: ignore[arg-type]
    with pytest.raises(KeyKnown):
        await journal.append(keyed("k", "a", 2))


async def test_keys_of_any_script_and_length_are_kept_apart(journal: AnyJournal) -> None:
    keys = ["k" * 128, "k" * 127, "é", "e\u0301", "😀" * 128, " ", "%s", "'", '"', "\\", "a/b"]
    for number, key in enumerate(keys):
        await journal.append(keyed(key, "x" * 255, number))
    assert sorted(await journal.keys(EntityId("x" * 255), 100)) == sorted(keys)


async def test_appends_with_and_without_keys_travel_together(journal: AnyJournal) -> None:
    known = [keyed("k", f"known {n}", 0) for n in range(10)]
    await asyncio.gather(*map(journal.append, known))
    asked = [
        *(append_of(f"plain {n}", 0, 1 + n % 3) for n in range(20)),
        *(keyed("k", f"keyed {n}", 0, n % 3) for n in range(20)),
        *(keyed("k", f"known {n}", 1) for n in range(10)),
        *(append_of(f"known {n}", 5) for n in range(10)),
        *(keyed("l", f"keyed {n}", 7, n % 2) for n in range(20)),
    ]
    answers = await asyncio.gather(*map(journal.append, asked), return_exceptions=True)
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == ["int"] * 40 + ["KeyKnown"] * 10 + ["RevisionConflict"] * 30
    stored = [append for append, kind in zip(asked, kinds, strict=True) if kind == "int"] + known
    events = {envelope for append in stored for envelope in append.envelopes}
    history = [event.envelope for event in await read_all(journal)]
    assert len(history) == len(events)
    assert set(history) == events


@settings(
    max_examples=15,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), writers=st.integers(2, 6))
async def test_of_racing_writers_with_one_key_one_is_remembered(
    journal: AnyJournal, seed: int, writers: int
) -> None:
    rng = random.Random(seed)
    name = EntityId(f"race {next(_examples)}")
    keys = ["x", "y", "z"]
    landed: dict[str, list[Append]] = {key: [] for key in keys}

    async def write(rng: random.Random) -> None:
        for _ in range(6):
            key = rng.choice(keys)
            newest = await journal.newest(name)
            append = keyed(key, name, newest.sequence_number if newest else 0, rng.randint(0, 2))
            try:
                await journal.append(append)
                landed[key].append(append)
            except RevisionConflict:
                pass
            except KeyKnown:
                assert await journal.remembered(name, IdempotencyKey(key)) is not None

    await asyncio.gather(*[write(random.Random(rng.random())) for _ in range(writers)])
    assert all(len(appends) <= 1 for appends in landed.values())
    for key, appends in landed.items():
        for append in appends:
            remembered = await journal.remembered(name, IdempotencyKey(key))
            assert remembered is not None
            assert remembered.sequence_number == append.expected + len(append.envelopes)
    history = [event for event in await read_all(journal) if event.envelope.meta.entity_id == name]
    assert len(history) == sum(len(append.envelopes) for appends in landed.values() for append in appends)
