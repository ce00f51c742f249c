"""Shards are those of Chief of State, for every id."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import (
    SHARD_LIMIT,
    Tagged,
    explaining_counts,
    is_explained,
    java_hash,
    likeliest_count,
    shard_of,
    shards_of_journal,
)

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


ODD_ID = EntityId("polygenelubricants")
"""Its hash is -2^31."""


def tagged(shards: int, *names: str) -> list[Tagged]:
    """These entities with the tags that Chief of State gives them."""
    hashes = {EntityId(name): java_hash(name) for name in names}
    return [(id_, str(-(2**31 % shards) if h == -(2**31) else abs(h) % shards)) for id_, h in hashes.items()]


MANY = [f"order-{number}" for number in range(50)]


@pytest.mark.parametrize("shards", [1, 2, 9, 16, 17, 100, 9973, SHARD_LIMIT])
def test_the_count_a_journal_was_made_with_is_found_in_its_tags(shards: int) -> None:
    assert shards_of_journal(tagged(shards, *MANY), None) == shards


@settings(max_examples=15, deadline=None)
@given(st.lists(ids, max_size=3), st.integers(1, 400), st.booleans())
def test_exactly_the_counts_that_explain_every_tag_are_found(
    names: list[str], shards: int, odd: bool
) -> None:
    tags = tagged(shards, *names, *[ODD_ID] * odd)
    everything = range(1, SHARD_LIMIT + 1)
    assert list(explaining_counts(tags)) == [n for n in everything if all(is_explained(t, n) for t in tags)]


def test_an_empty_journal_has_16_shards_or_those_asked_for() -> None:
    assert shards_of_journal([], None) == 16
    assert shards_of_journal([], 7) == 7


@pytest.mark.parametrize(("counts", "chosen"), [([3, 9, 16], 16), ([3, 9, 18], 9), ([5, 10], 5), ([], None)])
def test_16_comes_before_9_and_9_before_the_smallest(counts: list[int], chosen: int | None) -> None:
    assert likeliest_count(counts) == chosen


def test_a_negative_tag_of_chief_of_state_is_explained_by_its_formula() -> None:
    assert tagged(9, ODD_ID) == [(ODD_ID, "-2")]
    assert shards_of_journal([*tagged(9, *MANY), (ODD_ID, "-2")], None) == 9
    assert shards_of_journal([*tagged(9, *MANY), (ODD_ID, "0")], None) == 9


@pytest.mark.parametrize("tag", ["-2", "x", "", "05", "1.0", "10000", "2"])
def test_a_tag_no_formula_gives_is_explained_by_no_count(tag: str) -> None:
    assert not explaining_counts([(EntityId("a"), tag), *tagged(16, *MANY)])
    with pytest.raises(
        StartFailed, match=r"no number of shards explains .* newest 51 rows \(16 explains 50,"
    ):
        shards_of_journal([(EntityId("a"), tag), *tagged(16, *MANY)], 16)


def test_another_count_than_the_journal_s_is_refused_by_naming_that() -> None:
    with pytest.raises(StartFailed) as caught:
        shards_of_journal(tagged(9, *MANY), 16)
    assert str(caught.value) == (
        "COS_NUM_SHARDS is '16', which does not explain the tags of the journal's newest 50 rows; allowed: 9"
    )


def test_of_many_counts_that_would_do_a_few_are_named() -> None:
    with pytest.raises(StartFailed, match=r"allowed: 6, 7, 8, 9, 10 \.\.\.$"):
        shards_of_journal([(EntityId("\x05"), "5")], 3)
