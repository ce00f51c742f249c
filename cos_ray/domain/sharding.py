"""Which shard an entity belongs to: the same one as in CoS, for the same number of shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import gcd
from typing import TypeAlias

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


def shards_of_journal(newest: Sequence[Tagged], configured: int | None) -> int:
    """
    The number of shards to go on with, given the tags of a journal's newest rows.

    Raises StartFailed when no number explains them, or `configured` (COS_NUM_SHARDS) does not.
    """
    counts = explaining_counts(newest)
    count = likeliest_count(counts) if configured is None else configured
    if count is not None and count in counts:
        return count
    rows = f"the tags of the journal's newest {len(newest)} rows"
    if not counts:
        found = ", ".join(f"{usual} explains {_explained(newest, usual)}" for usual in USUAL_COUNTS)
        raise StartFailed(f"no number of shards explains {rows} ({found} of them)")
    named = ", ".join(map(str, counts[:_MOST_NAMED])) + (" ..." if len(counts) > _MOST_NAMED else "")
    raise StartFailed(f"COS_NUM_SHARDS is '{count}', which does not explain {rows}; allowed: {named}")


def is_explained(tagged: Tagged, shards: int) -> bool:
    """Whether an entity's event has this tag with that number of shards, by our formula or by CoS's."""
    entity_id, tag = tagged
    hash_ = java_hash(entity_id)
    of_chief_of_state = -(2**31 % shards) if hash_ == _WITHOUT_COUNTERPART else abs(hash_) % shards
    return tag in (str(of_chief_of_state), str(shard_of(entity_id, shards)))


def nearest_count(newest: Sequence[Tagged]) -> int:
    """Of the usual numbers of shards, the one that explains most of these tags."""
    return max(USUAL_COUNTS, key=lambda count: _explained(newest, count))


def _explained(newest: Sequence[Tagged], shards: int) -> int:
    return sum(is_explained(tagged, shards) for tagged in newest)
