"""What HTTP clients send and see, in JSON: the forms of requests and replies."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.ingress.http_errors import bad_request
from cos_ray.protocol.any_form import AnyForms
from cos_ray.protocol.codec import date_from_pb, date_to_pb, meta_from_pb, pack, unpack
from cos_ray.protocol.json_form import Json, date_to_json, meta_to_json, without_empty
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData

_LARGEST = 2**32 - 1
_FRACTION = re.compile(r"(?<=:[0-9]{2})[.,]([0-9]{1,9})(?![0-9])")
"""Of a second."""


class Forms:
    """The forms of one reply: an `Any` as base64, or readable where its type is known."""

    def __init__(self, any_forms: AnyForms, *, readable: bool) -> None:
        self._any_forms = any_forms
        self._readable = readable

    def any(self, message: Any) -> Json:
        """An `Any`; None for the default one."""
        return self._any_forms.to_json(pack(message), readable=self._readable) or None

    def meta(self, message: MetaData) -> Json:
        """A MetaData; None if it says nothing."""
        form = meta_to_json(meta_from_pb(message))
        if message.data:
            form["data"] = {key: self.any(value) for key, value in sorted(message.data.items())}
        return form

    def state(self, state: Any, meta: MetaData) -> dict[str, Json]:
        """A state and its meta."""
        return without_empty({"state": self.any(state), "meta": self.meta(meta)})

    def event(
        self, event: Any, state: Any, meta: MetaData, subscription_id: str | None = None
    ) -> dict[str, Json]:
        """An event, the state it led to and their meta."""
        return without_empty(
            {
                "subscription_id": subscription_id,
                "event": self.any(event),
                "resulting_state": self.any(state),
                "meta": self.meta(meta),
            }
        )


def any_of(forms: AnyForms, value: Json, name: str) -> Any:
    """The `Any` of a request's field. Raises HttpError."""
    if value is None:
        return Any()
    try:
        return unpack(forms.from_json(value))
    except ValueError as error:
        raise bad_request(f"{name} {error}") from None


def number_of(text: str | None, name: str) -> int:
    """A number from 0 in a query; 0 if it is not there. Raises HttpError."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > _LARGEST:
        raise bad_request(f"{name} is {text[:100]!r}; allowed: a whole number from 0 to {_LARGEST}")
    return int(text)


def time_of(text: str, name: str) -> Timestamp:
    """A date and time in ISO 8601, in UTC unless it says otherwise. Raises HttpError."""
    try:
        # Python 3.10 does not know of Z. In a query a plus that was not encoded is a space.
        whole = text.strip().replace("Z", "+00:00").replace(" ", "+")
        # No Python reads nanoseconds, as our own replies may have them.
        fraction = _FRACTION.search(whole)
        moment = datetime.fromisoformat(_FRACTION.sub("", whole, count=1))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        message = date_to_pb(moment)
        message.nanos = int(fraction[1].ljust(9, "0")) if fraction else 0
        return message
    except (ValueError, OverflowError):
        raise bad_request(f"{name} is {text[:100]!r}; allowed: a time such as 2026-05-01T12:00:00Z") from None


def time_form(message: Timestamp) -> Json:
    """A Timestamp in ISO 8601."""
    return date_to_json(date_from_pb(message))
