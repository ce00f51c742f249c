"""Which shard an entity belongs to: the same one as in CoS, for the same number of shards."""

from __future__ import annotations

from cos_ray.domain.ids import EntityId, Shard

SHARD_LIMIT = 10_000
"""The largest number of shards."""


def shard_of(entity_id: EntityId, shards: int) -> Shard:
    """The absolute value of the id's Java string hash, modulo the number of shards."""
    hash_ = java_hash(entity_id)
    # Java's Math.abs(-2^31) is negative; CoS puts such an entity into a shard no one reads.
    return Shard(0 if hash_ == -(2**31) else abs(hash_) % shards)


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
