"""
Out of `google.protobuf.Any`, in which the service carries our messages without looking inside.

Anyone may send anything, so which types belong in which place is ours to check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


class NotUnderstood(Exception):
    """An `Any` holds something other than what belongs there; the text says what."""


def unpack(packed: Any, types: Iterable[type[M]]) -> M:
    """Take out a message that is one of these types. Raises NotUnderstood if it is not."""
    for type_ in types:
        if packed.TypeName() == type_.DESCRIPTOR.full_name:
            try:
                return type_.FromString(packed.value)
            except DecodeError as error:
                raise NotUnderstood(f"malformed {packed.TypeName()}") from error
    raise NotUnderstood(f"unknown message type {packed.type_url!r}")
