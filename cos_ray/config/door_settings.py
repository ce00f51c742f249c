"""Settings of what the ingress lets in, and streams out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cos_ray.config.group import Group
from cos_ray.config.values import File, Flag


class Subscriptions(Group):
    """Streams of live events."""

    enabled: Flag = Field(False, alias="COS_SUBSCRIPTION_ENABLED")
    """Whether clients may subscribe to events."""
    streams: Annotated[int, Field(ge=1, le=100_000)] = Field(5_000, alias="COS_MAX_SUBSCRIPTIONS")
    """How many subscriptions one ingress process serves; the next are answered RESOURCE_EXHAUSTED."""
    streams_per_client: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, alias="COS_MAX_SUBSCRIPTIONS_PER_CLIENT"
    )
    """How many of them one client may have, as far as clients can be told apart."""
    waiting_events: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, alias="COS_SUBSCRIPTION_WAITING_EVENTS"
    )
    """How many events may wait for a client that is slow to take them, before its stream is ended."""


class Admission(Group):
    """What clients may ask for, and who they must be."""

    request_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = Field(
        32 * 1024 * 1024, alias="COS_MAX_REQUEST_BYTES"
    )
    """The largest request, in bytes; beyond it: RESOURCE_EXHAUSTED."""
    metadata_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = Field(
        16 * 1024, alias="COS_MAX_METADATA_BYTES"
    )
    """The largest metadata of a request, or its HTTP headers, in bytes; beyond it: RESOURCE_EXHAUSTED."""
    requests_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, alias="COS_MAX_REQUESTS_PER_SECOND"
    )
    """How many requests one client may send to one ingress process; unset: as many as it likes."""
    auth_file: File | None = Field(None, alias="COS_AUTH_FILE")
    """Who may call what, by bearer tokens and JSON Web Tokens; unset: anybody may call anything."""
    erasure_enabled: Flag = Field(False, alias="COS_ERASURE_ENABLED")
    """Whether entities may be erased for good, by EraseEntity."""
