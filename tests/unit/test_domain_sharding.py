"""Shards are those of Chief of State, for every id."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import (
    SHARD_LIMIT,
    ShardCount,
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
    assert shards_of_journal(tagged(shards, *MANY), None) == ShardCount(shards)


@settings(max_examples=15, deadline=None)
@given(st.lists(ids, max_size=3), st.integers(1, 400), st.booleans())
def test_exactly_the_counts_that_explain_every_tag_are_found(
    names: list[str], shards: int, odd: bool
) -> None:
    tags = tagged(shards, *names, *[ODD_ID] * odd)
    everything = range(1, SHARD_LIMIT + 1)
    assert list(explaining_counts(tags)) == [n for n in everything if all(is_explained(t, n) for t in tags)]


def test_an_empty_journal_has_16_shards_or_those_asked_for() -> None:
    assert shards_of_journal([], None) == ShardCount(16)
    assert shards_of_journal([], 7) == ShardCount(7)


@pytest.mark.parametrize(("counts", "chosen"), [([3, 9, 16], 16), ([3, 9, 18], 9), ([5, 10], 5), ([], None)])
def test_16_comes_before_9_and_9_before_the_smallest(counts: list[int], chosen: int | None) -> None:
    assert likeliest_count(counts) == chosen


def test_a_negative_tag_of_chief_of_state_is_explained_by_its_formula() -> None:
    assert tagged(9, ODD_ID) == [(ODD_ID, "-2")]
    assert shards_of_journal([*tagged(9, *MANY), (ODD_ID, "-2")], None) == ShardCount(9)
    assert shards_of_journal([*tagged(9, *MANY), (ODD_ID, "0")], None) == ShardCount(9)


@pytest.mark.parametrize("tag", ["-2", "x", "", "05", "1.0", "10000", "2"])
@pytest.mark.parametrize("configured", [None, 16])
def test_a_tag_no_formula_gives_is_explained_by_no_count_and_does_no_harm_among_many(
    tag: str, configured: int | None
) -> None:
    stray = (EntityId("a"), tag)
    assert not explaining_counts([stray, *tagged(16, *MANY)])
    assert shards_of_journal([stray, *tagged(16, *MANY)], configured) == ShardCount(16, (stray,))


@pytest.mark.parametrize("shards", [2, 9, 16, 100, 9973])
def test_a_few_strays_do_not_hide_the_count_a_journal_was_made_with(shards: int) -> None:
    # As Chief of State stores an id that holds NUL: without it, and with the tag of all of it.
    names = [f"{letter}\0{letter}" for letter in "abcde"]
    strays = [(EntityId(n.replace("\0", "")), tag) for n, tag in tagged(shards, *names)]
    newest = [*strays, *tagged(shards, *MANY)]
    unlike = tuple(stray for stray in strays if not is_explained(stray, shards))
    assert shards_of_journal(newest, None) == ShardCount(shards, unlike)
    assert shards_of_journal(newest, shards) == ShardCount(shards, unlike)
    # The right number twice, or half of it, explains many of them.
    for wrong in (shards * 2, shards + 1):
        with pytest.raises(StartFailed, match=f"COS_NUM_SHARDS is '{wrong}', .* allowed: {shards}"):
            shards_of_journal(newest, wrong)


def test_too_many_strays_are_refused_and_named() -> None:
    strays = [(EntityId(f"stray-{number}"), "x") for number in range(8)]
    with pytest.raises(StartFailed) as caught:
        shards_of_journal([*strays, *tagged(16, *MANY)], None)
    said = str(caught.value)
    assert said.startswith(
        "no number of shards explains the tags of the journal's newest 58 rows (16 explains 50"
    )
    named = ", ".join(f"'stray-{number}' has 'x'" for number in range(5))
    assert said.endswith(f"; not explained by 16: {named}")


def test_of_a_hundred_entities_one_may_be_a_stray() -> None:
    names = [f"order-{number}" for number in range(2_000)]
    strays = [(EntityId(f"stray-{number}"), "x") for number in range(20)]
    assert shards_of_journal([*strays, *tagged(16, *names)], None).shards == 16
    more = [*strays, (EntityId("one more"), "x")]
    with pytest.raises(StartFailed):
        shards_of_journal([*more, *tagged(16, *names)], 16)


def test_a_busy_entity_says_no_more_than_any_other() -> None:
    """Many rows of one entity are explained by a number that explains none of the others."""
    busy = tagged(32, "order-1") * 4_000
    others = tagged(16, *MANY[2:12])
    assert is_explained(busy[0], 32)
    with pytest.raises(StartFailed):
        shards_of_journal([*busy, *others], 32)


def test_a_stray_among_fewer_than_eight_is_refused_for_chance_explains_as_many() -> None:
    stray = (EntityId("a"), "x")
    with pytest.raises(StartFailed, match="not explained by 16: 'a' has 'x'"):
        shards_of_journal([stray, *tagged(16, *MANY[:6])], 16)
    assert shards_of_journal([stray, *tagged(16, *MANY[:7])], 16) == ShardCount(16, (stray,))


def test_where_several_numbers_do_as_well_the_operator_has_to_say_which() -> None:
    # Whatever one of these explains, the other one does.
    newest = [(EntityId("a"), "x"), *((EntityId(chr(number)), str(number)) for number in range(1, 9))]
    with pytest.raises(StartFailed, match=r"several numbers .* set COS_NUM_SHARDS to one of 9, 10, 11"):
        shards_of_journal(newest, None)
    assert shards_of_journal(newest, 12).shards == 12


@settings(max_examples=20, deadline=None)
@given(st.sets(ids, min_size=16, max_size=60), st.integers(2, 400), st.data())
def test_no_number_is_taken_that_explains_fewer_than_another(
    names: set[str], shards: int, data: st.DataObject
) -> None:
    newest = tagged(shards, *sorted(names))
    for place in data.draw(st.lists(st.integers(0, len(newest) - 1), max_size=4)):
        newest[place] = (newest[place][0], data.draw(st.sampled_from(["x", "0", "1", "399"])))
    try:
        found = shards_of_journal(newest, None)
    except StartFailed:
        return
    unexplained = {count: sum(not is_explained(t, count) for t in set(newest)) for count in range(1, 401)}
    assert len(found.strays) == min(unexplained.values())
    assert len(found.strays) <= len(names) // 8


def test_another_count_than_the_journal_s_is_refused_by_naming_that() -> None:
    with pytest.raises(StartFailed) as caught:
        shards_of_journal(tagged(9, *MANY), 16)
    assert str(caught.value) == (
        "COS_NUM_SHARDS is '16', which does not explain the tags of the journal's newest 50 rows; allowed: 9"
    )


def test_of_many_counts_that_would_do_a_few_are_named() -> None:
    with pytest.raises(StartFailed, match=r"allowed: 6, 7, 8, 9, 10 \.\.\.$"):
        shards_of_journal([(EntityId("\x05"), "5")], 3)
