"""What the OpenAPI document says beside what FastAPI reads from the routes: headers, bodies, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from cos_ray.domain.evolution import ACTUAL_REVISION
from cos_ray.ingress.command_options import EXPECTED_REVISION, IDEMPOTENCY_KEY, TIMEOUT
from cos_ray.ingress.event_stream import SUBSCRIPTION_ID
from cos_ray.ingress.read_your_writes import PENDING, WAIT_FOR
from cos_ray.ingress.subscription_start import FROM_OFFSET, FROM_REVISION, WITH_OFFSET

LAST_EVENT_ID = "last-event-id"

API_PREFIX = "/v1/"
"""Of the paths that ask for a token where tokens are on."""

_WHOLE_NUMBER = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_TEXT = {"type": "string"}

Parameter = dict[str, Any]


def _parameter(place: str, name: str, schema: Mapping[str, Any], description: str) -> Parameter:
    return {"name": name, "in": place, "required": False, "schema": schema, "description": description}


ANY_FORM = _parameter(
    "query",
    "any",
    {"type": "string", "enum": ["base64", "json"], "default": "base64"},
    "How a google.protobuf.Any is shown: as base64, or as an object with @type where its type is known",
)

COMMAND_HEADERS = (
    _parameter(
        "header",
        IDEMPOTENCY_KEY,
        {"type": "string", "minLength": 1, "maxLength": 128},
        "The same entity and key again, within 24 hours, gets the same answer, and the command runs once",
    ),
    _parameter(
        "header",
        EXPECTED_REVISION,
        _WHOLE_NUMBER,
        f"The command runs at this revision only, 0: no event yet; else ABORTED (409) with {ACTUAL_REVISION}",
    ),
    _parameter(
        "header",
        TIMEOUT,
        {**_WHOLE_NUMBER, "minimum": 1},
        "Milliseconds that the command has, at the most; the service's own limit still holds",
    ),
    _parameter(
        "header",
        WAIT_FOR,
        _TEXT,
        f"The read side that is to have handled the event before the reply; else the reply has {PENDING}",
    ),
)

_RETURNING = _parameter(
    "header",
    LAST_EVENT_ID,
    _WHOLE_NUMBER,
    "The id of the last event that a returning client has seen: the stream goes on after it",
)

ENTITY_STREAM_HEADERS = (
    _parameter("header", FROM_REVISION, _WHOLE_NUMBER, "As from_revision in the query, which it overrides"),
    _RETURNING,
)

STREAM_HEADERS = (
    _parameter("header", FROM_OFFSET, _WHOLE_NUMBER, "As from_offset in the query, which it overrides"),
    _parameter(
        "header",
        WITH_OFFSET,
        {"type": "string", "enum": ["true", "false"], "default": "true"},
        "Whether each event has its offset as its id",
    ),
    _RETURNING,
)


def _header(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"schema": schema, "description": description}


COMMAND_REPLY_HEADERS = {
    "200": {PENDING: _header(_TEXT, "The read side that was waited for, and has not handled the event yet")},
    "default": {
        ACTUAL_REVISION: _header(_WHOLE_NUMBER, "Where the entity stands, if elsewhere than expected")
    },
}

STREAM_REPLY_HEADERS = {
    "200": {SUBSCRIPTION_ID: _header(_TEXT, "The name of the subscription, percent-encoded where need be")},
}


def described(
    *,
    parameters: Sequence[Parameter] = (),
    body: type[BaseModel] | None = None,
    reply_headers: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    What the document says of an operation in addition; for FastAPI's `openapi_extra`.

    `reply_headers`: by status, by name.
    """
    more: dict[str, Any] = {"parameters": list(parameters)}
    if body is not None:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        more["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if reply_headers is not None:
        more["responses"] = {status: {"headers": headers} for status, headers in reply_headers.items()}
    return more


def require_tokens(document: dict[str, Any]) -> None:
    """Have the document say that the API's own routes ask for a bearer token."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of COS_AUTH_FILE, or of the identity provider that it names",
        }
    }
    for path, operations in document["paths"].items():
        if path.startswith(API_PREFIX):
            for operation in operations.values():
                operation["security"] = [{"bearer": []}]
