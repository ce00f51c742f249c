"""What holds of every place for operators' orders, claims and dead letters."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from tests.contracts.conftest import AnyReadSides

A, B = ReadSideId("read-side_a"), ReadSideId("read-side_b")
ME, OTHER = Owner("me"), Owner("other")
S0, S1 = Shard(0), Shard(1)
LONG, SHORT = timedelta(hours=1), timedelta(milliseconds=50)
# A packed message as applications send it.
EVENT = Packed(b"\x0a\x03t/E\x12\x01e")


def event(entity_id: str, revision: int, offset: int) -> JournaledEvent:
    meta = Meta(EntityId(entity_id), Revision(revision))
    return JournaledEvent(Offset(offset), EventEnvelope(EVENT, EVENT, meta, Revision(revision)))


class TestControls:
    async def test_one_that_starts_by_itself_is_not_paused(self, stores: AnyReadSides) -> None:
        await stores.controls.introduce(A, [S0, S1], True)
        assert set(await stores.controls.paused(A)) == set()

    async def test_one_that_does_not_is_paused_the_first_time_only(self, stores: AnyReadSides) -> None:
        await stores.controls.introduce(A, [S0, S1], False)
        assert set(await stores.controls.paused(A)) == {0, 1}
        await stores.controls.pause(A, [S0], False)
        await stores.controls.introduce(A, [S0, S1, Shard(2)], False)
        assert set(await stores.controls.paused(A)) == {1}

    async def test_one_with_offsets_was_seen_before(self, stores: AnyReadSides) -> None:
        await stores.controls.claim(A, [S0], ME)
        await stores.offsets.save(A, {S0: Offset(1)}, ME)
        await stores.controls.introduce(A, [S0, S1], False)
        assert set(await stores.controls.paused(A)) == set()

    async def test_pausing_concerns_the_shards_named_and_no_other_read_side(
        self, stores: AnyReadSides
    ) -> None:
        await stores.controls.pause(A, [S1], True)
        await stores.controls.pause(B, [S0], True)
        assert set(await stores.controls.paused(A)) == {1}
        await stores.controls.pause(A, [S0, S1], False)
        assert set(await stores.controls.paused(A)) == set()
        assert set(await stores.controls.paused(B)) == {0}


class TestClaims:
    async def test_what_nobody_has_is_had_by_asking(self, stores: AnyReadSides) -> None:
        assert set(await stores.controls.renew(A, [S0, S1], ME, LONG)) == {0, 1}

    async def test_a_claim_that_is_kept_alive_is_not_taken_over(self, stores: AnyReadSides) -> None:
        await stores.controls.claim(A, [S0], OTHER)
        assert set(await stores.controls.renew(A, [S0, S1], ME, LONG)) == {1}
        assert set(await stores.controls.renew(A, [S0, S1], OTHER, LONG)) == {0}

    async def test_a_claim_gone_silent_is_taken_over(self, stores: AnyReadSides) -> None:
        await stores.controls.claim(A, [S0], OTHER)
        deadline = asyncio.get_running_loop().time() + 10
        while not await stores.controls.renew(A, [S0], ME, SHORT):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        assert set(await stores.controls.renew(A, [S0], OTHER, LONG)) == set()

    async def test_who_claims_last_has_it(self, stores: AnyReadSides) -> None:
        await stores.controls.claim(A, [S0], OTHER)
        await stores.controls.claim(A, [S0], ME)
        assert set(await stores.controls.renew(A, [S0], OTHER, LONG)) == set()
        assert set(await stores.controls.renew(A, [S0], ME, LONG)) == {0}

    async def test_what_is_released_is_free_and_what_others_have_is_not(self, stores: AnyReadSides) -> None:
        await stores.controls.claim(A, [S0], OTHER)
        await stores.controls.claim(A, [S1], ME)
        await stores.controls.claim(B, [S0], OTHER)
        await stores.controls.release(A, OTHER)
        assert set(await stores.controls.renew(A, [S0, S1], Owner("third"), LONG)) == {0}
        assert set(await stores.controls.renew(B, [S0], ME, LONG)) == set()


class TestLetters:
    async def test_what_is_set_aside_comes_back_as_it_was(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S1, event("a", 3, 17), "no\0 good", 6)
        (letter,) = await stores.letters.letters(A, None, 10)
        assert (letter.shard, letter.offset, letter.failures) == (1, 17, 6)
        assert letter.envelope == event("a", 3, 17).envelope
        assert letter.reason.startswith("no")
        assert letter.parked_at.tzinfo is not None

    async def test_set_aside_twice_the_first_time_counts(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S1, event("a", 3, 17), "first", 6)
        await stores.letters.park(A, S1, event("a", 3, 17), "second", 0)
        assert [letter.reason for letter in await stores.letters.letters(A, None, 10)] == ["first"]

    async def test_they_come_in_order_of_one_entity_or_of_all(self, stores: AnyReadSides) -> None:
        for entity_id, revision, offset in (("b", 1, 30), ("a", 2, 20), ("a", 1, 10), ("b", 2, 40)):
            await stores.letters.park(A, S0, event(entity_id, revision, offset), "", 0)
        await stores.letters.park(B, S0, event("a", 9, 9), "", 0)
        assert [letter.offset for letter in await stores.letters.letters(A, None, 3)] == [10, 20, 30]
        ours = await stores.letters.letters(A, EntityId("b"), 10)
        assert [letter.envelope.sequence_number for letter in ours] == [1, 2]

    async def test_the_entities_are_known_by_shard(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S0, event("a", 1, 1), "", 0)
        await stores.letters.park(A, S0, event("a", 2, 2), "", 0)
        await stores.letters.park(A, S1, event("b", 1, 3), "", 0)
        found = await stores.letters.entities(A)
        assert {shard: set(entities) for shard, entities in found.items()} == {0: {"a"}, 1: {"b"}}

    async def test_one_is_dropped_or_all_of_an_entity(self, stores: AnyReadSides) -> None:
        for revision in (1, 2, 3):
            await stores.letters.park(A, S0, event("a", revision, revision), "", 0)
        assert await stores.letters.drop(A, EntityId("a"), Revision(2)) == 1
        assert await stores.letters.drop(A, EntityId("a"), Revision(2)) == 0
        assert await stores.letters.drop(A, EntityId("a"), None) == 2
        assert list(await stores.letters.letters(A, None, 10)) == []

    async def test_those_after_an_offset_are_dropped_in_one_shard(self, stores: AnyReadSides) -> None:
        for shard, entity_id, offset in ((S0, "a", 10), (S0, "b", 20), (S1, "c", 30)):
            await stores.letters.park(A, shard, event(entity_id, 1, offset), "", 0)
        await stores.letters.drop_after(A, S0, Offset(10))
        assert [letter.offset for letter in await stores.letters.letters(A, None, 10)] == [10, 30]
