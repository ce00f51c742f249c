"""What HTTP handlers are sent, and what their answers other than 200 mean."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone

import pytest
from google.protobuf.any_pb2 import Any

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import Header, Meta, Packed
from cos_ray.handlers.http_status import status_of
from cos_ray.protocol.json_form import any_from_json, any_to_json, meta_to_json, without_empty

JSON = "application/json; charset=utf-8"
PACKED = Packed(Any(type_url="t/x", value=b"\x00\xff").SerializeToString())


def test_meta_is_written_in_snake_case_with_iso_dates_and_base64() -> None:
    date = datetime(2026, 1, 2, 5, 4, 5, 678900, tzinfo=timezone(timedelta(hours=2)))
    headers = (Header("x-who", "me"), Header("x-key-bin", b"\x00\xff"))
    meta = Meta(EntityId("ada"), Revision(7), date, headers, (("k", PACKED),))
    assert meta_to_json(meta) == {
        "entity_id": "ada",
        "revision_number": 7,
        "revision_date": "2026-01-02T03:04:05.678900Z",
        "headers": [{"key": "x-who", "string_value": "me"}, {"key": "x-key-bin", "bytes_value": "AP8="}],
        "data": {"k": base64.b64encode(PACKED).decode()},
    }


def test_what_is_empty_is_left_out() -> None:
    assert meta_to_json(Meta(EntityId("ada"), Revision(0))) == {"entity_id": "ada"}
    assert without_empty({"a": "", "b": [], "c": {}, "d": None, "e": "x"}) == {"e": "x"}


def test_an_any_comes_back_as_it_went() -> None:
    assert any_from_json(any_to_json(PACKED)) == PACKED
    assert any_from_json("") == b""


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (5, "is no text"),
        (None, "is no text"),
        ("?", "is no base64"),
        ("é", "is no base64"),
        ("/w==", "no google"),
    ],
)
def test_what_is_no_any_is_told(value: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        any_from_json(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (409, Code.ALREADY_EXISTS),
        (412, Code.FAILED_PRECONDITION),
        (418, Code.INVALID_ARGUMENT),
        (422, Code.INVALID_ARGUMENT),
        (429, Code.RESOURCE_EXHAUSTED),
        (500, Code.INTERNAL),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
        (201, Code.INTERNAL),
        (302, Code.INTERNAL),
    ],
)
def test_an_http_status_has_its_code_and_a_page_is_never_shown(http_status: int, code: Code) -> None:
    status = status_of(http_status, "text/html", b"<html>Sorry</html>")
    assert status == Status(code, f"write handler answered HTTP status {http_status}")


def test_a_plain_text_is_the_message() -> None:
    assert status_of(400, "text/plain", " no \xff".encode()) == Status(Code.INVALID_ARGUMENT, "no ÿ")
    assert len(status_of(400, "text/plain", b"x" * 5000).message) == 1000


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"error": "ABORTED: not now"}, Status(Code.ABORTED, "not now")),
        ({"error": "not now: later"}, Status(Code.NOT_FOUND, "not now: later")),
        ({"error": "OK: fine"}, Status(Code.NOT_FOUND, "OK: fine")),
        ({"error": "ABORTED: no", "details": "AP8="}, Status(Code.ABORTED, "no", b"\x00\xff")),
        ({"error": "ABORTED: no", "details": "?"}, Status(Code.ABORTED, "no")),
        ({"detail": "no such cart"}, Status(Code.NOT_FOUND, "no such cart")),
        ({"detail": [1]}, Status(Code.NOT_FOUND, "write handler answered HTTP status 404")),
        (["error"], Status(Code.NOT_FOUND, "write handler answered HTTP status 404")),
    ],
)
def test_json_may_say_code_message_and_details(fields: object, expected: Status) -> None:
    assert status_of(404, JSON, json.dumps(fields).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_json_that_is_none_says_nothing(body: bytes) -> None:
    assert status_of(500, JSON, body) == Status(Code.INTERNAL, "write handler answered HTTP status 500")
