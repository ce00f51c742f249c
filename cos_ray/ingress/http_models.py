"""What the OpenAPI document says of requests and replies; nothing is checked by it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

ANY = "The base64 of a google.protobuf.Any; an object with @type where `any=json` is asked for"
Form = str | dict[str, Any]


class Shown(BaseModel):
    """Fields that say nothing are left out."""

    model_config = ConfigDict(extra="forbid")


class HeaderShown(Shown):
    """A persisted header."""

    key: str | None = None
    string_value: str | None = None
    bytes_value: str | None = Field(None, description="In base64")


class MetaShown(Shown):
    """Where an event stands in its entity's history."""

    entity_id: str | None = None
    revision_number: int | None = None
    revision_date: str | None = Field(None, description="ISO 8601, in UTC")
    data: dict[str, Form] | None = None
    headers: list[HeaderShown] | None = None


class StateShown(Shown):
    """An entity's state, and the meta of the event that led to it."""

    state: Form | None = Field(None, description=ANY)
    meta: MetaShown | None = None


class EventShown(Shown):
    """An event as it is stored."""

    event: Form | None = Field(None, description=ANY)
    resulting_state: Form | None = Field(None, description=ANY)
    meta: MetaShown | None = None


class EventsShown(Shown):
    """A page of an entity's events."""

    events: list[EventShown]
    next_revision: int | None = Field(None, description="`from` for the next page; absent after the last")


class StatesShown(Shown):
    """The states of several entities."""

    states: list[StateShown]
    missing: list[str]


class EntityShown(Shown):
    """An entity in a list."""

    entity_id: str
    updated_at: str = Field(description="When its newest event was stored")
    offset: int = Field(description="The place of its newest event in the journal")


class EntitiesShown(Shown):
    """A page of entities."""

    entities: list[EntityShown]
    next_page_token: str | None = Field(None, description="Absent after the last page")


class ErasureShown(Shown):
    """That an entity is erased."""

    erased_at: str = Field(description="When it was, the first time")
    events: int = Field(description="How many events were there")


class StatusShown(Shown):
    """One word."""

    status: str


class ErrorShown(Shown):
    """Why a request failed."""

    error: str = Field(description="`<CODE>: <message>`, with gRPC's name of the code")
    details: str | None = Field(None, description="The base64 of a google.rpc.Status")


class CommandAsked(Shown):
    """A command; the path says to which entity."""

    entity_id: str | None = Field(None, description="Not looked at: the path wins")
    command: Form | None = Field(
        None, description="The base64 of a google.protobuf.Any, or an object with @type whose type is known"
    )


class StatesAsked(Shown):
    """Which entities' states are wanted."""

    entity_ids: list[str] = Field(description="At most 1000 different ones")


ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorShown, "description": "Why it failed"},
}
"""For every route."""
