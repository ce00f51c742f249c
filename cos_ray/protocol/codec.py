"""
Translates between the messages of `chief_of_state.v1` and the domain's values.

An `Any` crosses as its serialized bytes (`Packed`), unknown fields and all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypedDict, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.domain.dates import date_of, instant_of
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import EntityState, EventEnvelope, Header, Headers, Meta, Packed
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import Header as PbHeader
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper, StateWrapper


class ShowsState(Protocol):
    """A message that shows an entity: `state` and `meta`."""

    @property
    def state(self) -> Any: ...  # noqa: D102

    @property
    def meta(self) -> MetaData: ...  # noqa: D102


_Reply = TypeVar("_Reply", bound=ShowsState)


def pack(message: Any) -> Packed:
    """The bytes of an `Any`."""
    return Packed(message.SerializeToString())


def unpack(packed: Packed) -> Any:
    """The `Any` these bytes are. Raises DecodeError if they are none."""
    return Any.FromString(packed)


def meta_to_pb(meta: Meta) -> MetaData:
    """A MetaData message; an absent date stays absent."""
    message = MetaData()
    meta_into(message, meta)
    return message


def meta_into(message: MetaData, meta: Meta) -> None:
    """Fill an empty MetaData, in place of a copy of one."""
    message.entity_id = meta.entity_id
    message.revision_number = meta.revision
    if meta.date is not None:
        _date_into(message.revision_date, meta.date)
    for header in meta.headers:
        message.headers.append(header_to_pb(header))
    for key, value in meta.data:
        message.data[key].MergeFromString(value)
    # An empty submessage is set explicitly, so that it is sent as present.
    message.SetInParent()


def meta_from_pb(message: MetaData) -> Meta:
    """
    The domain's Meta; `data` entries come sorted by key.

    Raises DecodeError if its date is not in the years 1 to 9999: it is none, then.
    """
    try:
        date = date_from_pb(message.revision_date) if message.HasField("revision_date") else None
    except OverflowError as error:
        raise DecodeError("revision_date is out of range") from error
    return Meta(
        entity_id=EntityId(message.entity_id),
        revision=Revision(message.revision_number),
        date=date,
        headers=_headers_from_pb(message),
        data=tuple((key, pack(message.data[key])) for key in sorted(message.data)) if message.data else (),
    )


def envelope_to_bytes(envelope: EventEnvelope) -> bytes:
    """A journal row's payload: a serialized EventWrapper."""
    message = EventWrapper(meta=meta_to_pb(envelope.meta))
    message.event.MergeFromString(envelope.event)
    message.resulting_state.MergeFromString(envelope.resulting_state)
    # Deterministic, because an append is asked for again byte for byte.
    return message.SerializeToString(deterministic=True)


def state_to_bytes(envelope: EventEnvelope) -> bytes:
    """A snapshot's payload: a serialized StateWrapper of the state the event led to."""
    message = StateWrapper(meta=meta_to_pb(envelope.meta))
    message.state.MergeFromString(envelope.resulting_state)
    return message.SerializeToString(deterministic=True)


def envelope_from_bytes(sequence_number: Revision, payload: bytes) -> EventEnvelope:
    """The envelope of a journal row. Raises DecodeError if the payload is none that can be read."""
    message = EventWrapper.FromString(payload)
    return EventEnvelope(
        event=pack(message.event),
        resulting_state=pack(message.resulting_state),
        meta=meta_from_pb(message.meta),
        sequence_number=sequence_number,
    )


def showing(reply: _Reply, state: EntityState) -> _Reply:
    """The empty message that was given, filled with this state."""
    # In place: a field that is given to a message's constructor is copied.
    reply.state.SetInParent()
    reply.state.MergeFromString(state.state)
    meta_into(reply.meta, state.meta)
    return reply


class EventFields(TypedDict):
    """How every stream and page shows an event."""

    event: Any
    resulting_state: Any
    meta: MetaData


def event_fields(envelope: EventEnvelope) -> EventFields:
    """The fields of a message that shows this event."""
    return EventFields(
        event=unpack(envelope.event),
        resulting_state=unpack(envelope.resulting_state),
        meta=meta_to_pb(envelope.meta),
    )


def header_to_pb(header: Header) -> PbHeader:
    """A Header message."""
    if isinstance(header.value, bytes):
        return PbHeader(key=header.key, bytes_value=header.value)
    return PbHeader(key=header.key, string_value=header.value)


def _headers_from_pb(message: MetaData) -> Headers:
    return tuple(
        Header(h.key, h.bytes_value if h.WhichOneof("value") == "bytes_value" else h.string_value)
        for h in message.headers
    )


def date_to_pb(date: datetime) -> Timestamp:
    """A Timestamp message."""
    message = Timestamp()
    _date_into(message, date)
    return message


def _date_into(message: Timestamp, date: datetime) -> None:
    message.seconds, message.nanos = instant_of(date)


def date_from_pb(message: Timestamp) -> datetime:
    """The domain's date, to the nanosecond. Raises OverflowError for one that it cannot hold."""
    return date_of(message.seconds, message.nanos)
