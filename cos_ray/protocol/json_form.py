"""
The JSON form of the protocol: what HTTP handlers are sent, and answer.

As in CoS: names in snake_case, empty fields left out, dates in ISO 8601, an `Any` as the base64 of
its bytes.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TypeAlias

from google.protobuf.message import DecodeError

from cos_ray.domain.dates import date_of, instant_of
from cos_ray.domain.messages import Header, Meta, Packed
from cos_ray.protocol.codec import pack, unpack

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


def meta_to_json(meta: Meta) -> dict[str, Json]:
    """A MetaData object."""
    return without_empty(
        {
            "entity_id": meta.entity_id,
            "revision_number": meta.revision,
            "revision_date": date_to_json(meta.date) if meta.date else None,
            "data": {key: any_to_json(value) for key, value in meta.data},
            "headers": [_header_to_json(header) for header in meta.headers],
        }
    )


def date_to_json(date: datetime) -> str:
    """A date and time, in UTC: to the nanosecond where it has nanoseconds."""
    seconds, nanos = instant_of(date)
    text = date_of(seconds, 0).replace(tzinfo=None).isoformat()
    if nanos:
        text += f".{nanos:09d}" if nanos % 1_000 else f".{nanos // 1_000:06d}"
    return f"{text}Z"


def any_to_json(packed: Packed) -> str:
    """An `Any`; the empty text for the default one."""
    return base64.b64encode(packed).decode("ascii")


def any_from_json(value: Json) -> Packed:
    """The `Any` that a JSON value stands for. Raises ValueError, saying what it is not."""
    if not isinstance(value, str):
        raise ValueError("is no text")
    try:
        return pack(unpack(Packed(base64.b64decode(value, validate=True))))
    except DecodeError as error:
        raise ValueError("is no google.protobuf.Any") from error
    except ValueError as error:
        raise ValueError("is no base64") from error


def without_empty(fields: dict[str, Json]) -> dict[str, Json]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value not in (None, "", 0, [], {})}


def _header_to_json(header: Header) -> Json:
    if isinstance(header.value, bytes):
        return {"key": header.key, "bytes_value": base64.b64encode(header.value).decode("ascii")}
    return {"key": header.key, "string_value": header.value}
