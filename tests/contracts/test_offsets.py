"""What holds of every place for read sides' offsets."""

from __future__ import annotations

from cos_ray.domain.ids import Offset, ReadSideId, Shard
from cos_ray.ports import OffsetStore

A, B = ReadSideId("read-side_a"), ReadSideId("read-side_b")


async def test_a_new_read_side_has_no_offsets(offsets: OffsetStore) -> None:
    assert await offsets.load(A) == {}


async def test_saved_offsets_come_back(offsets: OffsetStore) -> None:
    saved = {Shard(0): Offset(7), Shard(15): Offset(2**62)}
    await offsets.save(A, saved)
    assert await offsets.load(A) == saved


async def test_saving_some_shards_leaves_the_others(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(1), Shard(1): Offset(1)})
    await offsets.save(A, {Shard(1): Offset(2), Shard(2): Offset(3)})
    assert await offsets.load(A) == {Shard(0): Offset(1), Shard(1): Offset(2), Shard(2): Offset(3)}


async def test_an_offset_may_go_back(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(9)})
    await offsets.save(A, {Shard(0): Offset(0)})
    assert await offsets.load(A) == {Shard(0): Offset(0)}


async def test_read_sides_do_not_share_offsets(offsets: OffsetStore) -> None:
    await offsets.save(A, {Shard(0): Offset(1)})
    await offsets.save(B, {Shard(0): Offset(2)})
    assert await offsets.load(A) == {Shard(0): Offset(1)}


async def test_saving_nothing_is_nothing(offsets: OffsetStore) -> None:
    await offsets.save(A, {})
    assert await offsets.load(A) == {}
