"""Which shard an entity belongs to: the same one as in CoS, for the same number of shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import NamedTuple, TypeAlias

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId, Shard

SHARD_LIMIT = 10_000
"""The largest number of shards."""

USUAL_COUNTS = (16, 9)
"""The numbers of shards to be taken first: that of a new journal, and that of older CoS."""

Tagged: TypeAlias = tuple[EntityId, str]
"""An entity and the tag one of its events has in the journal: its shard at that time, as text."""

_WITHOUT_COUNTERPART = -(2**31)
"""The hash whose absolute value Java cannot tell: `Math.abs` leaves it negative."""

_TAG = re.compile(r"0|-?[1-9][0-9]{0,8}")

_MOST_NAMED = 5

_FEW = 5
"""So many entities with tags of their own are few in any journal."""


@lru_cache(maxsize=16_384)  # of those who get commands now; a look costs a tenth of working it out
def shard_of(entity_id: EntityId, shards: int) -> Shard:
    """The absolute value of the id's Java string hash, modulo the number of shards."""
    hash_ = java_hash(entity_id)
    # CoS puts an entity with this hash into a negative shard, which no one reads.
    return Shard(0 if hash_ == _WITHOUT_COUNTERPART else abs(hash_) % shards)


def java_hash(text: str) -> int:
    """`String.hashCode` of Java: over UTF-16 code units, wrapping at 32 bits, signed."""
    hash_ = 0
    if text.isascii():
        for unit in text.encode("ascii"):
            hash_ = (31 * hash_ + unit) & 0xFFFFFFFF
    else:
        units = text.encode("utf-16-le", "surrogatepass")
        for low, high in zip(units[::2], units[1::2], strict=True):
            hash_ = (31 * hash_ + low + (high << 8)) & 0xFFFFFFFF
    return hash_ - 2**32 if hash_ >= 2**31 else hash_


def explaining_counts(tagged: Iterable[Tagged]) -> Sequence[int]:
    """
    Every number of shards that explains all these tags, rising.

    A tag is explained by `shard_of`, and by CoS's own formula, whose shard for the hash -2^31 is
    negative or 0. No tags are explained by every number.
    """
    # hash % count == tag means: the count divides hash - tag, and is larger than the tag.
    divisible, least = 0, 1
    for entity_id, tag in tagged:
        if not _TAG.fullmatch(tag):
            return ()
        hash_, shard = java_hash(entity_id), int(tag)
        if hash_ == _WITHOUT_COUNTERPART:
            if shard == 0:
                continue  # our shard for it, whatever the number
            shard = -shard
        if shard < 0:
            return ()
        divisible = gcd(divisible, abs(hash_) - shard)
        least = max(least, shard + 1)
    return [count for count in range(least, SHARD_LIMIT + 1) if divisible % count == 0]


def likeliest_count(counts: Sequence[int]) -> int | None:
    """Of the numbers that explain a journal, the one it was made with; None if there is none."""
    usual = [count for count in USUAL_COUNTS if count in counts]
    return next(iter([*usual, *counts]), None)


@dataclass(frozen=True, slots=True)
class ShardCount:
    """With how many shards to go on, and what speaks against it."""

    shards: int
    strays: tuple[Tagged, ...] = ()
    """Those of the newest rows whose tags this number does not explain; each entity and tag once."""


def shards_of_journal(newest: Sequence[Tagged], configured: int | None) -> ShardCount:
    """
    The number of shards to go on with, given the tags of a journal's newest rows.

    Where no number explains all of them, one that explains all but a few will do, if no other does as
    well. Raises StartFailed when there is none, or `configured` (COS_NUM_SHARDS) is not it.
    """
    counts = explaining_counts(newest)
    if counts:
        count = likeliest_count(counts) if configured is None else configured
        if count is not None and count in counts:
            return ShardCount(count)
        raise StartFailed(_not_explained(newest, configured, counts))
    nearly = nearly_explaining_counts(newest)
    if (configured is None and len(nearly) == 1) or configured in nearly:
        count = nearly[0] if configured is None else configured
        return ShardCount(count, _strays(newest, count))
    if nearly:
        raise StartFailed(_not_explained(newest, configured, nearly))
    rows = f"the tags of the journal's newest {len(newest)} rows"
    found = ", ".join(f"{usual} explains {_explained(newest, usual)}" for usual in USUAL_COUNTS)
    judge = configured or nearest_count(newest)
    examples = ", ".join(f"{id_!r} has {tag!r}" for id_, tag in _strays(newest, judge)[:_MOST_NAMED])
    raise StartFailed(
        f"no number of shards explains {rows} ({found} of them); not explained by {judge}: {examples}"
    )


def nearly_explaining_counts(newest: Sequence[Tagged]) -> Sequence[int]:
    """
    The numbers of shards that explain all but a few of these tags, and more than any other number does.

    Few are up to 5 or 1 % of the different entities, and one among 8 at most: twice the right number, or
    half of it, explains every other entity by chance. An entity counts once for each of its tags, for
    the many rows of a busy one say no more than one of them.
    """
    different = set(newest)
    pairs = [_Pair(java_hash(entity_id), tag) for entity_id, tag in different]
    fewest = min(max(_FEW, len(different) // 100), len(different) // 8)
    found: list[int] = []
    for count in range(1, SHARD_LIMIT + 1):
        strays = 0
        for pair in pairs:
            strays += not pair.is_explained_by(count)
            if strays > fewest:
                break
        if strays < fewest:
            found, fewest = [], strays
        if strays == fewest:
            found.append(count)
    return found


class _Pair(NamedTuple):
    """An entity's hash and a tag of it."""

    hash: int
    tag: str

    def is_explained_by(self, shards: int) -> bool:
        """By our formula or by that of Chief of State."""
        if self.hash == _WITHOUT_COUNTERPART:
            return self.tag in ("0", str(-(2**31 % shards)))
        return self.tag == str(abs(self.hash) % shards)


def _not_explained(newest: Sequence[Tagged], configured: int | None, allowed: Sequence[int]) -> str:
    named = ", ".join(map(str, allowed[:_MOST_NAMED])) + (" ..." if len(allowed) > _MOST_NAMED else "")
    rows = f"the tags of the journal's newest {len(newest)} rows"
    if configured is None:
        return (
            f"several numbers of shards explain all but a few of {rows}: set COS_NUM_SHARDS to one of {named}"
        )
    return f"COS_NUM_SHARDS is '{configured}', which does not explain {rows}; allowed: {named}"


def _strays(newest: Sequence[Tagged], shards: int) -> tuple[Tagged, ...]:
    """Those not explained, each once."""
    return tuple(tagged for tagged in dict.fromkeys(newest) if not is_explained(tagged, shards))


def is_explained(tagged: Tagged, shards: int) -> bool:
    """Whether an entity's event has this tag with that number of shards, by our formula or by CoS's."""
    entity_id, tag = tagged
    return _Pair(java_hash(entity_id), tag).is_explained_by(shards)


def nearest_count(newest: Sequence[Tagged]) -> int:
    """Of the usual numbers of shards, the one that explains most of these tags."""
    return max(USUAL_COUNTS, key=lambda count: _explained(newest, count))


def _explained(newest: Sequence[Tagged], shards: int) -> int:
    return sum(is_explained(tagged, shards) for tagged in newest)
