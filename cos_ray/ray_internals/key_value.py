"""
The key-value table of Ray's head node: small notes that outlive the process that wrote them.

They last as long as the head node, or its Redis. Every call blocks, and raises RayError where the head
does not answer.
"""

from __future__ import annotations

from ray.experimental import internal_kv


def put(table: bytes, key: bytes, value: bytes, *, overwrite: bool = True) -> None:
    """Note the value under the key; without `overwrite`, only if the key has none."""
    internal_kv._internal_kv_put(key, value, overwrite=overwrite, namespace=table)


def get(table: bytes, key: bytes) -> bytes | None:
    """The key's value; None if it has none."""
    value: bytes | None = internal_kv._internal_kv_get(key, namespace=table)
    return value


def delete(table: bytes, key: bytes) -> None:
    """Forget the key and its value, if there are any."""
    internal_kv._internal_kv_del(key, namespace=table)
