"""What holds of every journal: the fake that fast tests use, and the real one."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import EventRefused, RevisionConflict
from cos_ray.domain.ids import CommandId, EntityId, Offset, Revision, Shard
from cos_ray.domain.messages import Append, JournaledEvent, Packed
from cos_ray.domain.sharding import shard_of
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.testing.history import faults_of_history
from tests.contracts.conftest import AnyJournal, MarkDeleted
from tests.support.journal import SHARDS, append_of, packed, read_all

A = EntityId("a")

_examples = count(1)


async def test_an_unknown_entity_has_no_newest_event(journal: AnyJournal) -> None:
    assert await journal.newest(A) is None


@pytest.mark.parametrize("no_id", ["", "x" * 256, "a\0b"])
async def test_what_cannot_be_an_entity_has_no_events(journal: AnyJournal, no_id: str) -> None:
    assert await journal.newest(EntityId(no_id)) is None
    assert await journal.stored_by(EntityId(no_id), CommandId("c")) is None
    assert await journal.history(EntityId(no_id), Revision(1), 1) == []
    assert await journal.at(EntityId(no_id), Revision(1)) is None


async def test_the_newest_event_is_the_last_appended_with_all_it_carries(journal: AnyJournal) -> None:
    await journal.append(append_of("a", 0, events=2))
    last = append_of("a", 2)
    await journal.append(last)
    assert await journal.newest(A) == last.envelopes[-1]


async def test_an_entitys_past_is_read_from_any_revision_in_pages(journal: AnyJournal) -> None:
    appends = [append_of("a", 0, events=3), append_of("a", 3, events=2)]
    for append in (*appends, append_of("b", 0)):
        await journal.append(append)
    past = [envelope for append in appends for envelope in append.envelopes]
    assert await journal.history(A, Revision(1), 10) == past
    assert await journal.history(A, Revision(2), 2) == past[1:3]
    assert await journal.history(A, Revision(6), 2) == []
    assert await journal.history(EntityId("nobody"), Revision(1), 2) == []


async def test_the_state_at_a_revision_is_that_of_its_event(journal: AnyJournal) -> None:
    append = append_of("a", 0, events=3)
    await journal.append(append)
    assert [await journal.at(A, Revision(n)) for n in range(5)] == [None, *append.envelopes, None]


async def test_offsets_rise_in_the_order_of_an_appends_events(journal: AnyJournal) -> None:
    append = append_of("a", 0, events=5)
    offset = await journal.append(append)
    events = await journal.after(append.shard, Offset(0), 10)
    assert [event.envelope for event in events] == list(append.envelopes)
    assert [event.offset for event in events] == sorted({event.offset for event in events})
    assert events[-1].offset == offset


async def test_of_two_writers_of_one_revision_one_wins(journal: AnyJournal) -> None:
    appends = [append_of("a", 0, events=2) for _ in range(2)]
    answers = await asyncio.gather(*map(journal.append, appends), return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [RevisionConflict]
    winner = appends[[isinstance(answer, int) for answer in answers].index(True)]
    assert [e.envelope for e in await read_all(journal)] == list(winner.envelopes)


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_an_append_to_another_revision_is_a_conflict(journal: AnyJournal, expected: int) -> None:
    await journal.append(append_of("a", 0, events=2))
    late = append_of("a", expected, events=3)
    with pytest.raises(RevisionConflict) as caught:
        await journal.append(late)
    assert (caught.value.entity_id, caught.value.expected) == (A, expected)
    assert len(await read_all(journal)) == 2


async def test_asking_again_for_what_is_stored_succeeds_and_stores_nothing(journal: AnyJournal) -> None:
    first = append_of("a", 0, events=2)
    offset = await journal.append(first)
    assert await journal.append(first) == offset
    await journal.append(append_of("a", 2))
    assert await journal.append(first) == offset
    assert len(await read_all(journal)) == 3


async def test_other_bytes_under_the_same_command_are_a_conflict(journal: AnyJournal) -> None:
    first = append_of("a", 0)
    await journal.append(first)
    other = replace(first, envelopes=(replace(first.envelopes[0], event=packed("other")),))
    with pytest.raises(RevisionConflict):
        await journal.append(other)


async def test_the_same_bytes_of_another_command_are_a_conflict(journal: AnyJournal) -> None:
    first = append_of("a", 0)
    await journal.append(first)
    with pytest.raises(RevisionConflict):
        await journal.append(replace(first, command_id=CommandId("another")))


async def test_half_of_what_is_stored_and_half_new_is_a_conflict(journal: AnyJournal) -> None:
    longer = append_of("a", 0, events=2)
    await journal.append(replace(longer, envelopes=longer.envelopes[:1]))
    with pytest.raises(RevisionConflict):
        await journal.append(longer)


@pytest.mark.parametrize("no_id", ["", "x" * 256, "a\0b"])
async def test_an_event_of_what_cannot_be_an_entity_is_refused(journal: AnyJournal, no_id: str) -> None:
    with pytest.raises(EventRefused):
        await journal.append(append_of(no_id, 0))


async def test_events_that_do_not_follow_each_other_are_refused(journal: AnyJournal) -> None:
    append = append_of("a", 0, events=2)
    for envelopes in ((), append.envelopes[1:], append.envelopes[::-1]):
        with pytest.raises(EventRefused):
            await journal.append(replace(append, envelopes=envelopes))
    assert await journal.newest(A) is None


async def test_ids_of_any_script_and_length_are_kept_apart(journal: AnyJournal) -> None:
    ids = ["é", "e\u0301", "E", "e", "😀", "日本", "a b", "'", "\\", '"', "%s", "x" * 255, "😀" * 255]
    for entity in ids:
        await journal.append(append_of(entity, 0))
    for entity in ids:
        newest = await journal.newest(EntityId(entity))
        assert newest is not None
        assert newest.meta.entity_id == entity


async def test_many_questions_at_once_get_each_its_own_answer(journal: AnyJournal) -> None:
    appends = [append_of(f"e{n}", 0) for n in range(200)]
    await asyncio.gather(*map(journal.append, appends))
    asked = [EntityId(f"e{n}") for n in range(250)] * 2
    answers = await asyncio.gather(*map(journal.newest, asked))
    expected = [append.envelopes[-1] for append in appends] + [None] * 50
    assert answers == expected * 2


async def test_the_last_event_of_a_command_is_found_by_its_id(journal: AnyJournal) -> None:
    appends = [append_of("a", 0, events=2), append_of("a", 2, events=3), append_of("a", 5)]
    for append in appends:
        await journal.append(append)
    for append in appends:
        assert await journal.stored_by(A, append.command_id) == append.envelopes[-1]
    assert await journal.stored_by(A, CommandId("never")) is None
    assert await journal.stored_by(EntityId("b"), appends[0].command_id) is None


async def test_a_shard_shows_its_own_events_page_by_page(journal: AnyJournal) -> None:
    appends = [append_of(f"e{n}", 0, events=1 + n % 3) for n in range(20)]
    await asyncio.gather(*map(journal.append, appends))
    everything = await read_all(journal, page=1000)
    for number in range(SHARDS):
        shard = Shard(number)
        expected = sorted(
            (event for event in everything if shard_of(event.envelope.meta.entity_id, SHARDS) == shard),
            key=lambda event: event.offset,
        )
        found: list[JournaledEvent] = []
        offset = Offset(0)
        while page := await journal.after(shard, offset, 3):
            assert len(page) <= 3
            found += page
            offset = page[-1].offset
        assert found == expected
        assert await journal.after(shard, offset, 3) == []
    assert len(everything) == sum(len(append.envelopes) for append in appends)


async def test_deleted_events_are_not_shown_and_their_numbers_still_count(
    journal: AnyJournal, mark_deleted: MarkDeleted
) -> None:
    append = append_of("a", 0, events=3)
    await journal.append(append)
    mark_deleted(A, Revision(2))
    shown = await journal.after(append.shard, Offset(0), 1)
    assert [event.envelope for event in shown] == [append.envelopes[-1]]
    mark_deleted(A, Revision(3))
    assert await journal.after(append.shard, Offset(0), 1) == []
    assert await journal.newest(A) == append.envelopes[-1]
    await journal.append(append_of("a", 3))


async def test_a_cancelled_append_leaves_the_others_and_the_truth_intact(journal: AnyJournal) -> None:
    appends = [append_of(f"e{n}", 0) for n in range(50)]
    tasks = [asyncio.create_task(journal.append(append)) for append in appends]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    acknowledged = [(appends[n], Offset(answers[n])) for n in range(1, 50, 2)]  # type: ignore[arg-type]
    # What was cancelled may be there or not: asking for it again settles it.
    settled = [(append, await journal.append(append)) for append in appends[::2]]
    assert faults_of_history(await read_all(journal), acknowledged + settled) == []


@settings(
    max_examples=15,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), writers=st.integers(2, 6), entities=st.integers(1, 3))
async def test_racing_writers_leave_a_whole_history(
    journal: AnyJournal, seed: int, writers: int, entities: int
) -> None:
    rng = random.Random(seed)
    # One journal for all examples of this test: each has entities of its own.
    example = next(_examples)
    names = [f"{example}-{n}" for n in range(entities)]
    acknowledged: list[tuple[Append, Offset]] = []
    denied: list[Append] = []

    async def write(rng: random.Random) -> None:
        for _ in range(8):
            name = rng.choice(names)
            newest = await journal.newest(EntityId(name))
            at = newest.sequence_number if newest else 0
            append = append_of(name, max(0, at - rng.choice([0, 0, 0, 0, 1])), rng.randint(1, 3))
            try:
                acknowledged.append((append, await journal.append(append)))
            except RevisionConflict:
                denied.append(append)

    await asyncio.gather(*[write(random.Random(rng.random())) for _ in range(writers)])
    history = [event for event in await read_all(journal) if event.envelope.meta.entity_id in names]
    assert faults_of_history(history, acknowledged, denied) == []
    assert len(history) == sum(len(append.envelopes) for append, _ in acknowledged)


async def test_a_change_of_state_types_that_an_entity_has_gone_through_is_a_precedent(
    journal: AnyJournal,
) -> None:
    there, back = TypeChange("x.A", "x.B"), TypeChange("x.B", "x.A")
    append = append_of("a", 0, 3)
    states = [Packed(b"\x0a\x05x/x.A"), Packed(b"\x0a\x05x/x.A"), Packed(b"\x0a\x05y/x.B")]
    pairs = zip(append.envelopes, states, strict=True)
    envelopes = tuple(replace(envelope, resulting_state=state) for envelope, state in pairs)
    await journal.append(replace(append, envelopes=envelopes))
    assert await journal.precedent(there) == Precedent(is_held=True, is_taken_over=False)
    assert await journal.precedent(back) == Precedent(is_held=False, is_taken_over=False)
