"""What holds of every place for read sides' offsets."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cos_ray.domain.ids import Offset, Owner, ReadSideId, Shard
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.ports import OffsetStore
from tests.contracts.conftest import AnyReadSides

A, B = ReadSideId("read-side_a"), ReadSideId("read-side_b")
ME, OTHER = Owner("me"), Owner("other")
FIRST, HOUR = LeaseRank(1, True, 1), timedelta(hours=1)
ALL = [Shard(0), Shard(1), Shard(2), Shard(15)]


@pytest.fixture
async def offsets(stores: AnyReadSides) -> OffsetStore:
    """Every shard is claimed."""
    for read_side in (A, B):
        await stores.controls.take(read_side, ALL, ME, FIRST, HOUR)
    return stores.offsets


async def test_a_new_read_side_has_no_offsets(offsets: OffsetStore) -> None:
    assert await offsets.load(A) == {}


async def test_saved_offsets_come_back(offsets: OffsetStore) -> None:
    saved = {Shard(0): Offset(7), Shard(15): Offset(10**18 - 1)}
    assert not await offsets.save(A, saved, ME)
    assert await offsets.load(A) == saved


async def test_saving_some_shards_leaves_the_others(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(1), Shard(1): Offset(1)}, ME)
    await offsets.save(A, {Shard(1): Offset(2), Shard(2): Offset(3)}, ME)
    assert await offsets.load(A) == {Shard(0): Offset(1), Shard(1): Offset(2), Shard(2): Offset(3)}


async def test_an_offset_may_go_back(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(9)}, ME)
    await offsets.save(A, {Shard(0): Offset(0)}, ME)
    assert await offsets.load(A) == {Shard(0): Offset(0)}


async def test_read_sides_do_not_share_offsets(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(1)}, ME)
    await offsets.save(B, {Shard(0): Offset(2)}, ME)
    assert await offsets.load(A) == {Shard(0): Offset(1)}


async def test_saving_nothing_is_nothing(offsets: OffsetStore) -> None:
    assert not await offsets.save(A, {}, ME)
    assert await offsets.load(A) == {}


async def test_only_who_has_claimed_a_shard_saves_its_offset(
    stores: AnyReadSides, offsets: OffsetStore
) -> None:
    await offsets.save(A, {Shard(0): Offset(5), Shard(1): Offset(5)}, ME)
    await stores.controls.release(A, [Shard(0)], ME)
    await stores.controls.take(A, [Shard(0)], OTHER, FIRST, HOUR)
    assert set(await offsets.save(A, {Shard(0): Offset(3), Shard(1): Offset(6)}, ME)) == {0}
    assert await offsets.load(A) == {Shard(0): Offset(5), Shard(1): Offset(6)}
    assert set(await offsets.save(A, {Shard(9): Offset(1)}, ME)) == {9}
