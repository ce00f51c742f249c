"""
What an HTTP answer other than 200 means.

CoS makes INTERNAL of them all; here a refusal stays a refusal. A handler that wants another code,
or a message for its client, says so in JSON: `{"error": "ALREADY_EXISTS: the cart is taken"}`, if
need be with `details`, the base64 of a `google.rpc.Status`.
"""

from __future__ import annotations

import base64
import json

from cos_ray.domain.errors import Code, Status

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ALREADY_EXISTS,
    412: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    # What a proxy says for a handler that is not there.
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

LONGEST_TEXT = 1_000
"""How much of a plain text becomes a message, in characters."""


def status_of(http_status: int, content_type: str, body: bytes, who: str = "write handler") -> Status:
    """The status the client is to see. A page for browsers is never shown; `who` answered."""
    code = _CODES.get(http_status, Code.INVALID_ARGUMENT if 400 <= http_status < 500 else Code.INTERNAL)
    default = f"{who} answered HTTP status {http_status}"
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/plain":
        return Status(code, body.decode("utf-8", "replace").strip()[:LONGEST_TEXT] or default)
    if kind == "application/json" or kind.endswith("+json"):
        return _in_json(body, Status(code, default))
    return Status(code, default)


def _in_json(body: bytes, otherwise: Status) -> Status:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return otherwise
    if not isinstance(fields, dict):
        return otherwise
    # `detail` is what FastAPI says without being asked.
    text = next((fields[k] for k in ("error", "detail") if isinstance(fields.get(k), str)), None)
    if not text:
        return otherwise
    name, colon, message = text.partition(":")
    details = _details(fields.get("details"))
    if colon and name in Code.__members__ and name != "OK":
        return Status(Code[name], message.strip(), details)
    return Status(otherwise.code, text, details)


def _details(value: object) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) and value else None
    except ValueError:
        return None
