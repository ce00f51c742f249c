"""The codec: nothing is lost on the way to bytes and back, least of all what is not ours."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import EMPTY_STATE, NOTHING, EventEnvelope, Header, Meta, Packed
from cos_ray.protocol.codec import (
    envelope_from_bytes,
    envelope_to_bytes,
    meta_from_pb,
    meta_to_pb,
    pack,
    showing,
    unpack,
)
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateResponse

UNKNOWN_FIELD = b"\xa2\x06\x03abc"
"""Field 100, of which `Any` knows nothing."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
dates = st.datetimes(timezones=st.just(timezone.utc))
packed = st.builds(
    lambda type_url, value, tail: Packed(Any(type_url=type_url, value=value).SerializeToString() + tail),
    texts,
    st.binary(max_size=50),
    st.sampled_from([b"", UNKNOWN_FIELD]),
)
headers = st.lists(st.builds(Header, texts, texts | st.binary(max_size=20)), max_size=4).map(tuple)
data = st.dictionaries(texts, packed, max_size=3).map(lambda entries: tuple(sorted(entries.items())))
metas = st.builds(
    Meta,
    texts.map(EntityId),
    st.integers(0, 2**32 - 1).map(Revision),
    st.none() | dates,
    headers,
    data,
)
envelopes = st.builds(EventEnvelope, packed, packed, metas, st.integers(1, 2**63 - 1).map(Revision))


@given(metas)
def test_metadata_comes_back_as_it_went(meta: Meta) -> None:
    assert meta_from_pb(meta_to_pb(meta)) == meta


@given(envelopes)
def test_an_envelope_comes_back_as_it_went(envelope: EventEnvelope) -> None:
    payload = envelope_to_bytes(envelope)
    assert envelope_from_bytes(envelope.sequence_number, payload) == envelope


@given(envelopes)
def test_the_same_envelope_is_always_the_same_bytes(envelope: EventEnvelope) -> None:
    again = envelope_from_bytes(envelope.sequence_number, envelope_to_bytes(envelope))
    assert envelope_to_bytes(again) == envelope_to_bytes(envelope)


@given(packed)
def test_an_any_comes_back_with_its_unknown_fields(any_: Packed) -> None:
    assert pack(unpack(any_)) == any_


def test_the_unknown_fields_of_an_event_reach_the_journal() -> None:
    event = Packed(Any(type_url="t/E", value=b"v").SerializeToString() + UNKNOWN_FIELD)
    meta = Meta(EntityId("e"), Revision(1))
    payload = envelope_to_bytes(EventEnvelope(event, NOTHING, meta, Revision(1)))
    assert UNKNOWN_FIELD in payload
    assert envelope_from_bytes(Revision(1), payload).event == event


def test_a_journal_row_is_an_event_wrapper() -> None:
    date = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    meta = Meta(EntityId("e"), Revision(7), date, (Header("a", "1"), Header("b-bin", b"\x00")))
    event, state = Any(type_url="t/Event", value=b"1"), Any(type_url="t/State", value=b"2")
    payload = envelope_to_bytes(EventEnvelope(pack(event), pack(state), meta, Revision(9)))

    wrapper = EventWrapper.FromString(payload)
    assert (wrapper.event, wrapper.resulting_state) == (event, state)
    assert (wrapper.meta.entity_id, wrapper.meta.revision_number) == ("e", 7)
    assert wrapper.meta.revision_date.ToDatetime(timezone.utc) == date
    assert [h.WhichOneof("value") for h in wrapper.meta.headers] == ["string_value", "bytes_value"]


def test_an_absent_date_stays_absent() -> None:
    assert not meta_to_pb(Meta(EntityId("e"), Revision(0))).HasField("revision_date")
    assert meta_from_pb(MetaData(entity_id="e")).date is None


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
@example(1_764_000_000, 541_789_849)
@example(-1, 999_999_999)
def test_dates_of_others_keep_their_nanoseconds(seconds: int, nanos: int) -> None:
    message = MetaData(entity_id="e", revision_date=Timestamp(seconds=seconds, nanos=nanos))
    meta = meta_from_pb(message)
    assert meta_to_pb(meta) == message
    assert meta_to_pb(pickle.loads(pickle.dumps(meta))) == message
    assert meta_to_pb(copy.deepcopy(meta)) == message


@pytest.mark.parametrize("seconds", [253_402_300_800, -62_135_596_801, 2**62, -(2**62)])
def test_a_date_that_is_none_is_no_metadata(seconds: int) -> None:
    message = MetaData(revision_date=Timestamp(seconds=seconds))
    with pytest.raises(DecodeError):
        meta_from_pb(message)
    with pytest.raises(DecodeError):
        envelope_from_bytes(Revision(1), EventWrapper(meta=message).SerializeToString())


def test_an_empty_header_value_keeps_its_kind() -> None:
    meta = Meta(EntityId("e"), Revision(1), None, (Header("a", ""), Header("a-bin", b"")))
    assert meta_from_pb(meta_to_pb(meta)) == meta


def test_the_state_of_an_entity_without_events_is_an_any_of_empty() -> None:
    expected = Any()
    expected.Pack(Empty())
    assert unpack(EMPTY_STATE) == expected
    reply = showing(GetStateResponse(), unborn(EntityId("e")))
    assert reply == GetStateResponse(state=expected, meta=MetaData(entity_id="e"))
    assert reply.HasField("state")


def test_a_payload_that_is_no_event_wrapper_is_an_error() -> None:
    with pytest.raises(DecodeError):
        envelope_from_bytes(Revision(1), b"\xff\xff")
