"""Shards are those of Chief of State, for every id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import SHARD_LIMIT, java_hash, shard_of

ids = st.text(max_size=300)


def by_the_book(text: str) -> int:
    """`s[0]*31^(n-1) + ... + s[n-1]` over UTF-16 units, as Java's documentation has it."""
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    total = sum(unit * 31 ** (len(units) - 1 - place) for place, unit in enumerate(units))
    return (total + 2**31) % 2**32 - 2**31


def test_the_shards_of_ten_ids_are_the_contract_s() -> None:
    shards = [shard_of(EntityId(f"test-id-{n}"), 9) for n in range(10)]
    assert shards == [5, 4, 3, 2, 1, 0, 8, 7, 6, 5]


@pytest.mark.parametrize(
    ("text", "hash_"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("Grüße", 69215351),
        ("polygenelubricants", -(2**31)),
        ("😀", 1772899),
    ],
)
def test_hashes_are_java_s(text: str, hash_: int) -> None:
    assert java_hash(text) == hash_ == by_the_book(text)


@given(ids)
def test_every_hash_is_java_s(text: str) -> None:
    assert java_hash(text) == by_the_book(text)


@given(ids, st.integers(1, SHARD_LIMIT))
def test_every_id_has_a_real_shard(text: str, shards: int) -> None:
    assert 0 <= shard_of(EntityId(text), shards) < shards


@pytest.mark.parametrize("shards", [1, 9, 16, 17, SHARD_LIMIT])
def test_the_hash_without_a_positive_counterpart_falls_into_shard_0(shards: int) -> None:
    assert shard_of(EntityId("polygenelubricants"), shards) == 0


def test_ids_beyond_the_basic_plane_count_as_two_units() -> None:
    assert java_hash("😀") == 31 * 0xD83D + 0xDE00


def test_a_lone_surrogate_has_a_shard_too() -> None:
    assert java_hash("\ud83d") == 0xD83D


def test_a_single_shard_holds_all() -> None:
    assert {shard_of(EntityId(f"id-{n}"), 1) for n in range(100)} == {0}
