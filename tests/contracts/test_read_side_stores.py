"""What holds of every place for operators' orders, claims and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from cos_ray.domain.erasure import redacted_event, says_nothing
from cos_ray.domain.errors import ClaimLost, EntityIsErased
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.system.process_identity import own_name
from tests.contracts.conftest import AnyReadSides, PutOnRecord

A, B = ReadSideId("read-side_a"), ReadSideId("read-side_b")
ME, OTHER = Owner("me"), Owner("other")
S0, S1 = Shard(0), Shard(1)
LONG, SHORT = timedelta(hours=1), timedelta(milliseconds=50)
OLD, NEW = LeaseRank(1, True, 9), LeaseRank(2, True, 5)
# A packed message as applications send it.
EVENT = Packed(b"\x0a\x03t/E\x12\x01e")


def event(entity_id: str, revision: int, offset: int) -> JournaledEvent:
    meta = Meta(EntityId(entity_id), Revision(revision))
    return JournaledEvent(Offset(offset), EventEnvelope(EVENT, EVENT, meta, Revision(revision)))


async def have(
    stores: AnyReadSides,
    read_side: ReadSideId,
    shards: Collection[Shard],
    owner: Owner,
    standing: LeaseRank = OLD,
    lasts: timedelta = LONG,
) -> set[Shard]:
    """Take what is free of these shards."""
    return set(await stores.controls.take(read_side, shards, owner, standing, lasts))


async def kept(stores: AnyReadSides, owner: Owner) -> dict[Shard, bool]:
    """The owner's shards, and whether somebody is to have them."""
    return dict(await stores.controls.keep(A, owner, LONG))


async def eventually_has(stores: AnyReadSides, owner: Owner, standing: LeaseRank) -> None:
    """Return once it has taken the first shard."""
    deadline = asyncio.get_running_loop().time() + 10
    while not await have(stores, A, [S0], owner, standing):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


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
        await have(stores, A, [S0], ME)
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
    async def test_a_release_keeps_its_number_and_each_later_one_and_each_run_has_a_greater(
        self, stores: AnyReadSides
    ) -> None:
        first = await stores.controls.enlist(ReleaseId("first"))
        second = await stores.controls.enlist(ReleaseId("second"))
        again = await stores.controls.enlist(ReleaseId("first"))
        assert first.generation == again.generation < second.generation
        assert first < again < second

    async def test_what_nobody_has_is_had_by_taking(self, stores: AnyReadSides) -> None:
        assert await have(stores, A, [S0, S1], ME) == {0, 1}
        # Once more, for the answer may have been lost.
        assert await have(stores, A, [S0, S1], ME) == {0, 1}

    async def test_a_claim_that_is_kept_alive_is_not_taken_by_whoever_counts_more(
        self, stores: AnyReadSides
    ) -> None:
        await have(stores, A, [S0], OTHER, OLD)
        assert await have(stores, A, [S0, S1], ME, NEW) == {1}
        assert await kept(stores, OTHER) == {0: False}
        assert await kept(stores, ME) == {1: False}

    async def test_a_claim_that_has_run_out_is_taken_by_whoever_comes(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, NEW, SHORT)
        await eventually_has(stores, ME, OLD)
        assert await kept(stores, OTHER) == {}
        assert await kept(stores, ME) == {0: False}

    async def test_the_claim_of_a_process_that_has_ended_is_taken_at_once_by_its_successor(
        self, stores: AnyReadSides
    ) -> None:
        machine, pid, started, unique = own_name().split("/")
        gone = Owner(f"{machine}/{pid}/{int(started) - 1}/{unique}")
        assert await have(stores, A, [S0, S1], gone, OLD) == {0, 1}
        await stores.controls.ask(A, [S1], ME, NEW, LONG)
        away = OLD.in_shards(at_home=False)
        assert await have(stores, A, [S0, S1], OTHER, away) == set()
        assert await have(stores, A, [S0, S1], OTHER, OLD) == {0}
        assert await have(stores, A, [S0, S1], ME, NEW) == {1}
        assert await kept(stores, gone) == {}

    async def test_a_claim_lasts_as_long_as_its_last_renewal_said(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, OLD, SHORT)
        await stores.controls.keep(A, OTHER, LONG)
        assert await have(stores, A, [S0], ME, NEW, SHORT) == set()
        await stores.controls.keep(A, OTHER, SHORT)
        await eventually_has(stores, ME, NEW)

    async def test_a_shard_is_handed_over_to_who_asked_and_to_nobody_else(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, OLD)
        await stores.controls.ask(A, [S0], ME, NEW, LONG)
        assert await kept(stores, OTHER) == {0: True}
        await stores.controls.release(A, [S0], OTHER)
        assert await have(stores, A, [S0], OTHER, OLD) == set()
        assert await kept(stores, ME) == {0: False}
        # It counts as much as who asked.
        await stores.controls.ask(A, [S0], OTHER, OLD, LONG)
        assert await kept(stores, ME) == {0: False}

    async def test_who_counts_less_is_not_heard(self, stores: AnyReadSides) -> None:
        for less, more in ((OLD, NEW), (NEW.in_shards(at_home=False), NEW), (LeaseRank(2, True, 4), NEW)):
            await have(stores, A, [S0], OTHER, more)
            await stores.controls.ask(A, [S0], ME, less, LONG)
            assert await kept(stores, OTHER) == {0: False}
            await stores.controls.release(A, [S0], OTHER)

    async def test_at_home_counts_more_than_having_begun_later(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, LeaseRank(2, False, 9))
        await stores.controls.ask(A, [S0], ME, NEW, LONG)
        assert await kept(stores, OTHER) == {0: True}

    async def test_of_two_who_ask_the_one_who_counts_more_is_given_the_shard(
        self, stores: AnyReadSides
    ) -> None:
        await have(stores, A, [S0], OTHER, OLD)
        await stores.controls.ask(A, [S0], ME, NEW, LONG)
        await stores.controls.ask(A, [S0], Owner("between"), LeaseRank(2, True, 4), LONG)
        await stores.controls.release(A, [S0], OTHER)
        assert await kept(stores, ME) == {0: False}

    async def test_a_release_by_an_earlier_run_takes_nothing_from_a_later_one(
        self, stores: AnyReadSides
    ) -> None:
        await have(stores, A, [S0, S1], OTHER, replace(OLD, run=5))
        await stores.controls.release(A, [S0], OTHER, 4)
        assert await kept(stores, OTHER) == {0: False, 1: False}
        await stores.controls.release(A, [S0], OTHER, 5)
        assert await kept(stores, OTHER) == {1: False}

    async def test_one_who_asked_and_is_gone_is_given_nothing(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, OLD)
        await stores.controls.ask(A, [S0], ME, NEW, SHORT)
        deadline = asyncio.get_running_loop().time() + 10
        while (await kept(stores, OTHER))[S0]:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        await stores.controls.release(A, [S0], OTHER)
        assert await kept(stores, ME) == {}
        assert await have(stores, A, [S0], Owner("third"), OLD) == {0}

    async def test_what_has_run_out_is_left_to_who_asks_for_it(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0], OTHER, OLD, SHORT)
        await stores.controls.ask(A, [S0], ME, NEW, LONG)
        await eventually_has(stores, ME, NEW)
        await have(stores, A, [S1], OTHER, OLD, SHORT)
        await stores.controls.ask(A, [S1], ME, NEW, LONG)
        third = Owner("third")
        deadline = asyncio.get_running_loop().time() + 10
        while await have(stores, A, [S1], third, NEW) or not await have(stores, A, [S1], ME, NEW):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        assert await kept(stores, third) == {}

    async def test_what_is_released_is_free_and_what_others_have_is_not(self, stores: AnyReadSides) -> None:
        await have(stores, A, [S0, Shard(2)], OTHER)
        await have(stores, A, [S1], ME)
        await have(stores, B, [S0], OTHER)
        await stores.controls.release(A, [S0, S1], OTHER)
        assert await have(stores, A, [S0, S1, Shard(2)], Owner("third")) == {0}
        assert await have(stores, B, [S0], ME) == set()


class TestLetters:
    @pytest.fixture(autouse=True)
    async def _claimed(self, stores: AnyReadSides) -> None:
        for read_side in (A, B):
            await have(stores, read_side, [S0, S1], ME)

    async def test_only_who_has_the_shard_changes_them(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S1, event("a", 1, 10), "", 6, ME)
        for change in (
            stores.letters.park(A, S1, event("a", 2, 20), "", 6, OTHER),
            stores.letters.park(A, Shard(7), event("b", 1, 30), "", 6, ME),
            stores.letters.drop(A, S1, EntityId("a"), None, OTHER, confirmed=True),
            stores.letters.skip(A, S1, event("a", 2, 20), OTHER),
            stores.letters.forget_skipped(A, S1, EntityId("a"), [Revision(1)], OTHER),
            stores.letters.drop_after(A, S1, Offset(0), OTHER),
        ):
            with pytest.raises(ClaimLost):
                await change
        assert [letter.offset for letter in await stores.letters.letters(A, None, 10)] == [10]

    async def test_what_is_set_aside_comes_back_as_it_was(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S1, event("a", 3, 17), "no\0 good", 6, ME)
        (letter,) = await stores.letters.letters(A, None, 10)
        assert (letter.shard, letter.offset, letter.failures) == (1, 17, 6)
        assert letter.envelope == event("a", 3, 17).envelope
        assert letter.reason.startswith("no")
        assert letter.parked_at.tzinfo is not None

    async def test_set_aside_twice_the_first_time_counts(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S1, event("a", 3, 17), "first", 6, ME)
        await stores.letters.park(A, S1, event("a", 3, 17), "second", 0, ME)
        assert [letter.reason for letter in await stores.letters.letters(A, None, 10)] == ["first"]

    async def test_they_come_in_order_of_one_entity_or_of_all(self, stores: AnyReadSides) -> None:
        for entity_id, revision, offset in (("b", 1, 30), ("a", 2, 20), ("a", 1, 10), ("b", 2, 40)):
            await stores.letters.park(A, S0, event(entity_id, revision, offset), "", 0, ME)
        await stores.letters.park(B, S0, event("a", 9, 9), "", 0, ME)
        assert [letter.offset for letter in await stores.letters.letters(A, None, 3)] == [10, 20, 30]
        ours = await stores.letters.letters(A, EntityId("b"), 10)
        assert [letter.envelope.sequence_number for letter in ours] == [1, 2]

    async def test_the_entities_are_known_by_shard(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S0, event("a", 1, 1), "", 0, ME)
        await stores.letters.park(A, S0, event("a", 2, 2), "", 0, ME)
        await stores.letters.park(A, S1, event("b", 1, 3), "", 0, ME)
        found = await stores.letters.entities(A)
        assert {shard: set(entities) for shard, entities in found.items()} == {0: {"a"}, 1: {"b"}}
        assert dict(await stores.letters.counts(A)) == {0: 2, 1: 1}
        assert dict(await stores.letters.counts(B)) == {}

    async def test_one_is_dropped_or_all_of_an_entity(self, stores: AnyReadSides) -> None:
        for revision in (1, 2, 3):
            await stores.letters.park(A, S0, event("a", revision, revision), "", 0, ME)
        assert await stores.letters.drop(A, S0, EntityId("a"), Revision(2), ME, confirmed=True) == 1
        assert await stores.letters.drop(A, S0, EntityId("a"), Revision(2), ME, confirmed=True) == 0
        assert await stores.letters.drop(A, S0, EntityId("a"), None, ME, confirmed=True) == 2
        assert list(await stores.letters.letters(A, None, 10)) == []

    async def test_those_after_an_offset_are_dropped_in_one_shard(self, stores: AnyReadSides) -> None:
        for shard, entity_id, offset in ((S0, "a", 10), (S0, "b", 20), (S1, "c", 30)):
            await stores.letters.park(A, shard, event(entity_id, 1, offset), "", 0, ME)
        await stores.letters.drop_after(A, S0, Offset(10), ME)
        assert [letter.offset for letter in await stores.letters.letters(A, None, 10)] == [10, 30]

    async def test_nothing_is_set_aside_that_an_erased_entity_said(
        self, stores: AnyReadSides, put_on_record: PutOnRecord
    ) -> None:
        await stores.letters.park(A, S0, event("a", 1, 1), "", 0, ME)
        put_on_record(EntityId("a"))
        with pytest.raises(EntityIsErased):
            await stores.letters.park(A, S0, event("a", 2, 2), "", 0, ME)
        with pytest.raises(ClaimLost):
            await stores.letters.park(A, S0, event("a", 2, 2), "", 0, OTHER)
        await stores.letters.park(A, S0, event("b", 1, 3), "", 0, ME)
        await stores.letters.park(A, S0, redacted_event(event("a", 3, 4)), "", 0, ME)
        # What said something has to go, so what says nothing takes its place.
        await stores.letters.park(A, S0, redacted_event(event("a", 1, 1)), "anew", 7, ME)
        await stores.letters.park(A, S0, redacted_event(event("a", 1, 1)), "again", 8, ME)
        found = await stores.letters.letters(A, None, 10)
        assert [(each.offset, each.failures, says_nothing(each.envelope)) for each in found] == [
            (1, 7, True),
            (3, 0, False),
            (4, 0, True),
        ]

    async def test_they_make_way_for_the_last_event_unless_one_says_the_same(
        self, stores: AnyReadSides
    ) -> None:
        for revision in (1, 2):
            await stores.letters.park(A, S0, event("a", revision, revision), "", 0, ME)
        await stores.letters.park(A, S0, event("b", 1, 3), "", 0, ME)
        await stores.letters.park(B, S0, event("a", 1, 1), "", 0, ME)
        with pytest.raises(ClaimLost):
            await stores.letters.make_way(A, S0, EntityId("a"), OTHER)
        assert await stores.letters.make_way(A, S0, EntityId("a"), ME) is True
        assert [letter.offset for letter in await stores.letters.letters(A, None, 10)] == [3]
        assert len(await stores.letters.letters(B, None, 10)) == 1
        await stores.letters.park(A, S0, event("a", 4, 4), "", 0, ME)
        await stores.letters.park(A, S0, redacted_event(event("a", 5, 5)), "", 6, ME)
        assert await stores.letters.make_way(A, S0, EntityId("a"), ME) is False
        assert [letter.offset for letter in await stores.letters.letters(A, EntityId("a"), 10)] == [5]


class TestLeftOut:
    """What lies behind a read side's offset and was not handled."""

    @pytest.fixture(autouse=True)
    async def _claimed(self, stores: AnyReadSides) -> None:
        for read_side in (A, B):
            await have(stores, read_side, [S0, S1], ME)

    async def left_out(self, stores: AnyReadSides, read_side: ReadSideId = A) -> list[int]:
        """Which of the first five events of the entity."""
        numbers = [Revision(number) for number in range(1, 6)]
        return [n for n in numbers if await stores.letters.is_left_out(read_side, EntityId("a"), n)]

    async def test_is_what_is_set_aside_and_what_was_stepped_over(self, stores: AnyReadSides) -> None:
        await stores.letters.park(A, S0, event("a", 1, 10), "", 0, ME)
        await stores.letters.skip(A, S0, event("a", 3, 30), ME)
        await stores.letters.skip(A, S0, event("a", 3, 30), ME)
        await stores.letters.skip(A, S0, event("b", 4, 40), ME)
        await stores.letters.skip(B, S0, event("a", 5, 50), ME)
        assert await self.left_out(stores) == [1, 3]
        assert await self.left_out(stores, B) == [5]
        assert set(await stores.letters.skipped_of(A, EntityId("a"))) == {3}

    async def test_a_dead_letter_that_is_dropped_unconfirmed_is_stepped_over(
        self, stores: AnyReadSides
    ) -> None:
        for number in (1, 2, 3):
            await stores.letters.park(A, S0, event("a", number, 10 * number), "", 0, ME)
        await stores.letters.drop(A, S0, EntityId("a"), Revision(1), ME, confirmed=True)
        assert await self.left_out(stores) == [2, 3]
        assert await stores.letters.drop(A, S0, EntityId("a"), None, ME, confirmed=False) == 2
        assert await self.left_out(stores) == [2, 3]
        assert list(await stores.letters.letters(A, None, 10)) == []

    async def test_is_no_more_what_is_handled_after_all(self, stores: AnyReadSides) -> None:
        for number in (1, 2, 3):
            await stores.letters.skip(A, S0, event("a", number, 10 * number), ME)
        await stores.letters.forget_skipped(A, S0, EntityId("a"), [Revision(1), Revision(3)], ME)
        assert await self.left_out(stores) == [2]

    async def test_is_nothing_that_is_going_to_be_delivered_again(self, stores: AnyReadSides) -> None:
        for number in (1, 2, 3, 4):
            shard = S1 if number == 4 else S0
            await stores.letters.skip(A, shard, event("a", number, 10 * number), ME)
        await stores.letters.forget_skipped_after(A, {S0: Offset(0), S1: Offset(0)}, OTHER)
        assert await self.left_out(stores) == [1, 2, 3, 4]
        await stores.letters.forget_skipped_after(A, {S0: Offset(20), S1: Offset(40)}, ME)
        assert await self.left_out(stores) == [1, 2, 4]
        await stores.letters.drop_after(A, S0, Offset(10), ME)
        assert await self.left_out(stores) == [1, 4]
