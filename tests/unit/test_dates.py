"""Dates to the nanosecond: they are what they were, wherever they come through."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.dates import PreciseDate, date_of, instant_of
from cos_ray.domain.ids import CommandId, EntityId, Revision
from cos_ray.domain.messages import Accepted, EntityState, Meta, Packed
from cos_ray.ingress.http_forms import time_form, time_of
from cos_ray.protocol.json_form import date_to_json
from cos_ray.transport.batching import BatchReply
from cos_ray.transport.encoding import reply_from_bytes, reply_to_bytes

SECONDS = st.integers(-62_135_596_800, 253_402_300_799)
NANOS = st.integers(0, 999_999_999)
DATE = date_of(1_764_000_000, 541_789_849)


@given(SECONDS, NANOS)
def test_an_instant_is_the_same_again(seconds: int, nanos: int) -> None:
    date = date_of(seconds, nanos)
    for same in (
        date,
        pickle.loads(pickle.dumps(date)),
        pickle.loads(pickle.dumps(date, 5)),
        copy.copy(date),
    ):
        assert instant_of(same) == (seconds, nanos)
        assert same == date
        assert hash(same) == hash(date)


@given(SECONDS, NANOS, SECONDS, NANOS)
def test_dates_are_ordered_as_their_instants(a: int, b: int, c: int, d: int) -> None:
    one, other = date_of(a, b), date_of(c, d)
    assert (one < other) == ((a, b) < (c, d))
    assert (one <= other) == ((a, b) <= (c, d))
    assert (one == other) == ((a, b) == (c, d))
    assert (one > other) == ((a, b) > (c, d))
    assert (one >= other) == ((a, b) >= (c, d))


@given(SECONDS, st.integers(0, 999_999), st.integers(1, 999))
def test_within_a_microsecond_the_nanoseconds_tell(seconds: int, microseconds: int, beyond: int) -> None:
    plain = date_of(seconds, microseconds * 1_000)
    precise = date_of(seconds, microseconds * 1_000 + beyond)
    assert type(plain) is datetime
    assert plain < precise
    assert not precise <= plain
    assert plain != precise
    assert max(plain, precise) is precise


def test_it_is_a_datetime_to_whoever_reckons_with_it() -> None:
    assert isinstance(DATE, PreciseDate)
    assert DATE - datetime(1970, 1, 1, tzinfo=timezone.utc) == timedelta(
        seconds=1_764_000_000, microseconds=541_789
    )
    assert DATE.isoformat() == "2025-11-24T16:00:00.541789+00:00"
    assert DATE.timestamp() == pytest.approx(1_764_000_000.541789)
    assert DATE != "a text"


def test_it_reaches_the_process_that_asked() -> None:
    state = EntityState(Packed(b"s"), Meta(EntityId("a"), Revision(1), DATE), Revision(1))
    answer = BatchReply("management", [(CommandId("c"), Accepted(state))])
    [(_, reply)] = reply_from_bytes(reply_to_bytes(answer)).replies
    assert isinstance(reply, Accepted)
    assert reply.state.meta.date is not None
    assert instant_of(reply.state.meta.date) == (1_764_000_000, 541_789_849)


class TestInJson:
    @pytest.mark.parametrize(
        ("nanos", "text"),
        [
            (541_789_849, "2025-11-24T16:00:00.541789849Z"),
            (541_789_000, "2025-11-24T16:00:00.541789Z"),
            (500_000_000, "2025-11-24T16:00:00.500000Z"),
            (7, "2025-11-24T16:00:00.000000007Z"),
            (0, "2025-11-24T16:00:00Z"),
        ],
    )
    def test_nanoseconds_are_written_where_there_are_any(self, nanos: int, text: str) -> None:
        assert date_to_json(date_of(1_764_000_000, nanos)) == text
        assert time_form(Timestamp(seconds=1_764_000_000, nanos=nanos)) == text

    @given(SECONDS, NANOS)
    def test_what_is_written_can_be_asked_for(self, seconds: int, nanos: int) -> None:
        asked = time_of(date_to_json(date_of(seconds, nanos)), "at")
        assert (asked.seconds, asked.nanos) == (seconds, nanos)

    @pytest.mark.parametrize(
        ("text", "seconds", "nanos"),
        [
            ("2025-11-24T16:00:00.5Z", 1_764_000_000, 500_000_000),
            ("2025-11-24T18:00:00.541789849+02:00", 1_764_000_000, 541_789_849),
            ("2025-11-24T18:00:00.541789849 02:00", 1_764_000_000, 541_789_849),
            ("2025-11-24T16:00:00", 1_764_000_000, 0),
            ("2025-11-24", 1_763_942_400, 0),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
        ],
    )
    def test_times_are_understood_in_any_precision(self, text: str, seconds: int, nanos: int) -> None:
        asked = time_of(text, "at")
        assert (asked.seconds, asked.nanos) == (seconds, nanos)
