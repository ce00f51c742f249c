"""What holds of every journal, the fake and the real one, when things go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cos_ray.domain.errors import JournalUnavailable, OutcomeUnknown, RevisionConflict
from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.messages import Append
from tests.contracts.rigs import MemoryRig, Rig, postgres_rig
from tests.support.journal import append_of, until

A = EntityId("a")


@pytest.fixture(params=["memory", "postgres"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "memory":
        yield MemoryRig()
        return
    async with postgres_rig(request.getfixturevalue("database")) as rig:
        yield rig


def neighbour_of(append: Append) -> Append:
    """An append of another entity in the same shard."""
    candidates = (append_of(f"neighbour-{n}", 0) for n in range(1_000))
    return next(candidate for candidate in candidates if candidate.shard == append.shard)


@pytest.mark.parametrize("stored", [True, False])
async def test_an_append_of_unknown_outcome_can_be_asked_about_and_asked_for_again(
    rig: Rig, stored: bool
) -> None:
    append = append_of("a", 0, events=2)
    rig.lose_next(stored=stored)
    with pytest.raises(OutcomeUnknown):
        await rig.journal.append(append)
    await rig.restore()
    found = await rig.journal.stored_by(A, append.command_id)
    assert found == (append.envelopes[-1] if stored else None)
    offset = await rig.journal.append(append)
    assert await rig.journal.append(append) == offset
    events = [e for e in await rig.journal.after(append.shard, Offset(0), 100) if e.offset <= offset]
    assert [e.envelope for e in events if e.envelope.meta.entity_id == A] == list(append.envelopes)


@pytest.mark.parametrize("stored", [True, False])
async def test_of_an_append_of_unknown_outcome_and_the_next_writers_one_is_there(
    rig: Rig, stored: bool
) -> None:
    lost, next_one = append_of("a", 0), append_of("a", 0)
    rig.lose_next(stored=stored)
    with pytest.raises(OutcomeUnknown):
        await rig.journal.append(lost)
    await rig.restore()
    winner, loser = (lost, next_one) if stored else (next_one, lost)
    if not stored:
        await rig.journal.append(winner)
    with pytest.raises(RevisionConflict):
        await rig.journal.append(loser)
    assert await rig.journal.newest(A) == winner.envelopes[-1]
    await rig.journal.append(append_of("a", 1))


async def test_out_of_reach_nothing_is_stored_and_everyone_is_told(rig: Rig) -> None:
    append = append_of("a", 0)
    rig.put_out_of_reach()
    for question in (
        rig.journal.append(append),
        rig.journal.newest(A),
        rig.journal.stored_by(A, append.command_id),
        rig.journal.after(append.shard, Offset(0), 1),
    ):
        with pytest.raises(JournalUnavailable):
            await question
    await rig.restore()
    assert await rig.journal.newest(A) is None
    await rig.journal.append(append)


async def test_a_reader_never_skips_an_append_that_commits_late(rig: Rig) -> None:
    late = append_of("a", 0, events=2)
    neighbour = neighbour_of(late)
    async with rig.committing_late(late) as late_offset:
        waiting = asyncio.create_task(rig.journal.append(neighbour))
        await until(rig.is_held_up)
        elsewhere = await rig.journal.append(
            next(a for a in (append_of(f"e{n}", 0) for n in range(100)) if a.shard != late.shard)
        )
        assert elsewhere > late_offset
        shown = {e.envelope.meta.entity_id for e in await rig.journal.after(late.shard, Offset(0), 100)}
        assert not shown & {A, neighbour.entity_id}
        assert not waiting.done()
        assert await rig.journal.newest(A) is None
    offset = await waiting
    assert offset > late_offset
    seen = [e.offset for e in await rig.journal.after(late.shard, Offset(0), 100)]
    assert seen[-3:] == [late_offset - 1, late_offset, offset]


async def test_an_append_forestalled_by_one_that_commits_late_is_a_conflict(rig: Rig) -> None:
    late, ours = append_of("a", 0), append_of("a", 0)
    async with rig.committing_late(late):
        asked = asyncio.create_task(rig.journal.append(ours))
        await until(rig.is_held_up)
    with pytest.raises(RevisionConflict):
        await asked
    assert await rig.journal.newest(A) == late.envelopes[-1]


async def test_an_append_asked_for_again_while_it_commits_late_gets_its_answer(rig: Rig) -> None:
    append = append_of("a", 0, events=2)
    async with rig.committing_late(append) as offset:
        asked = asyncio.create_task(rig.journal.append(append))
        await until(rig.is_held_up)
    assert await asked == offset
    assert await rig.journal.newest(A) == append.envelopes[-1]
