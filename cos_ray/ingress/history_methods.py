"""The past of entities, and which there are: `cos_ray.v1.HistoryService`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from cos_ray.domain.errors import Code, JournalUnavailable, Status
from cos_ray.domain.ids import EntityId, Offset, Revision, fault_of_entity_id
from cos_ray.domain.listing import ListedEntity, Listing
from cos_ray.domain.messages import EntityState, EventEnvelope
from cos_ray.ingress.command_options import is_whole_number
from cos_ray.ingress.status import FAILED, ReplyContext, refuse
from cos_ray.ports import EntityGateway, EntityPast, History
from cos_ray.protocol.codec import date_from_pb, date_to_pb, event_fields, meta_to_pb, showing, unpack
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import (
    GetEventsRequest,
    GetEventsResponse,
    GetStateAtRequest,
    GetStateAtResponse,
    GetStatesRequest,
    GetStatesResponse,
    HistoricEvent,
    ListEntitiesRequest,
    ListEntitiesResponse,
)
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import ListedEntity as PbListedEntity

logger = logging.getLogger(__name__)

USUAL_PAGE = 100
LARGEST_PAGE = 1000

LARGEST_REPLY = 3 * 1024 * 1024
"""Bytes after which a page of events ends early: clients take 4 MiB unless told otherwise."""

LARGEST_STATES = 32 * 1024 * 1024
"""Bytes of all states in one reply; one may have more."""

_FIRST_STATES = 8
"""How many states are looked up at first; while they are small, ever more at once."""

_Reply = TypeVar("_Reply")


class HistoryParts(Protocol):
    """What these methods work with."""

    gateway: EntityGateway
    history: History
    past: EntityPast


class Refusal(Exception):
    """A question ends with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


def invalid(message: str) -> Refusal:
    """For a question that makes no sense."""
    return Refusal(Status(Code.INVALID_ARGUMENT, message))


class HistoryMethods:
    """A part of `Ingress`."""

    _parts: HistoryParts

    async def GetEvents(self, request: GetEventsRequest, grpc_context: ReplyContext) -> GetEventsResponse:
        """An entity's events, page by page."""
        return await answered(grpc_context, GetEventsResponse, lambda: self._events(request))

    async def GetStateAt(self, request: GetStateAtRequest, grpc_context: ReplyContext) -> GetStateAtResponse:
        """What an entity was at a revision or at a time."""
        return await answered(grpc_context, GetStateAtResponse, lambda: self._state_at(request))

    async def GetStates(self, request: GetStatesRequest, grpc_context: ReplyContext) -> GetStatesResponse:
        """What several entities are."""
        return await answered(grpc_context, GetStatesResponse, lambda: self._states(request))

    async def ListEntities(
        self, request: ListEntitiesRequest, grpc_context: ReplyContext
    ) -> ListEntitiesResponse:
        """Which entities there are, page by page."""
        return await answered(grpc_context, ListEntitiesResponse, lambda: self._entities(request))

    async def _events(self, request: GetEventsRequest) -> GetEventsResponse:
        entity_id = _entity(request.entity_id)
        size = _page_size(request.page_size)
        first, last = request.from_revision, request.to_revision
        if last and last < first:
            raise invalid(f"to_revision is {last}, before from_revision {first}")
        reply, taken = GetEventsResponse(), 0
        place = Revision(first)
        while True:
            # One more than fits tells whether there is more.
            page = await self._parts.history.history(entity_id, place, size - len(reply.events) + 1)
            for envelope in page:
                revision = envelope.meta.revision
                # Sequence numbers of some old journals have run ahead of revisions.
                if revision < first or (last and revision > last):
                    continue
                if len(reply.events) == size or (reply.events and taken > LARGEST_REPLY):
                    reply.next_revision = revision
                    return reply
                reply.events.append(HistoricEvent(**event_fields(envelope)))
                taken += len(envelope.event) + len(envelope.resulting_state)
            if not page.has_more or (last and page[-1].meta.revision > last):
                return reply
            place = Revision(page[-1].sequence_number + 1)

    async def _state_at(self, request: GetStateAtRequest) -> GetStateAtResponse:
        entity_id = _entity(request.entity_id)
        match request.WhichOneof("moment"):
            case "revision":
                if request.revision == 0:
                    raise invalid("revision is 0; allowed: a number from 1")
                envelope = await self._at_revision(entity_id, Revision(request.revision))
            case "time":
                try:
                    moment = date_from_pb(request.time)
                except (OverflowError, ValueError):
                    raise invalid("time is out of range") from None
                envelope = await self._parts.past.at_time(entity_id, moment)
            case _:
                raise invalid("say which: revision or time")
        if envelope is None:
            raise Refusal(Status(Code.NOT_FOUND, ""))
        return GetStateAtResponse(state=unpack(envelope.resulting_state), meta=meta_to_pb(envelope.meta))

    async def _at_revision(self, entity_id: EntityId, wanted: Revision) -> EventEnvelope | None:
        # Sequence numbers of some old journals have run ahead of revisions; nearly always the first fits.
        place, size = wanted, 1
        while page := await self._parts.history.history(entity_id, place, size):
            for envelope in page:
                if envelope.meta.revision >= wanted:
                    return envelope if envelope.meta.revision == wanted else None
            place, size = Revision(page[-1].sequence_number + 1), USUAL_PAGE
        return None

    async def _states(self, request: GetStatesRequest) -> GetStatesResponse:
        entity_ids = list(dict.fromkeys(map(_entity, request.entity_ids)))
        if len(entity_ids) > LARGEST_PAGE:
            raise invalid(f"{len(entity_ids)} entity_ids; allowed: {LARGEST_PAGE}")
        reply, octets, at_once = GetStatesResponse(), 0, _FIRST_STATES
        for_now, entity_ids = entity_ids[:at_once], entity_ids[at_once:]
        while for_now:
            states: list[EntityState] = await asyncio.gather(*map(self._parts.gateway.state, for_now))
            for entity_id, state in zip(for_now, states, strict=True):
                octets += len(state.state)
                if not state.exists:
                    reply.missing.append(entity_id)
                elif reply.states and octets > LARGEST_STATES:
                    raise _too_large(len(reply.states))
                else:
                    reply.states.append(showing(GetStateAtResponse(), state))
            average = max(1.0, octets / (len(reply.states) + len(reply.missing)))
            fitting = int((LARGEST_STATES - octets) / average) + 1
            at_once = max(1, min(2 * at_once, fitting))
            for_now, entity_ids = entity_ids[:at_once], entity_ids[at_once:]
        return reply

    async def _entities(self, request: ListEntitiesRequest) -> ListEntitiesResponse:
        size, token, prefix = _page_size(request.page_size), request.page_token, request.prefix
        if "\0" in prefix + token:
            raise invalid("prefix or page_token contains a NUL character")
        if request.HasField("updated_since"):
            listing = await self._changed(request, size)
        else:
            listing = await self._parts.past.entities(prefix, token, size)
        entities = map(_listed, listing.entities)
        return ListEntitiesResponse(entities=entities, next_page_token=listing.next_place or "")

    async def _changed(self, request: ListEntitiesRequest, size: int) -> Listing:
        try:
            since = date_from_pb(request.updated_since)
        except (OverflowError, ValueError):
            raise invalid("updated_since is out of range") from None
        if request.page_token:
            if not is_whole_number(request.page_token) or int(request.page_token) > 2**63 - 1:
                raise invalid("page_token is none of ours")
            after = Offset(int(request.page_token))
        else:
            first = await self._parts.past.offset_at(since)
            if first is None:
                return Listing((), None)
            after = Offset(first - 1)
        return await self._parts.past.changed(request.prefix, since, after, size)


async def answered(
    context: ReplyContext, empty: Callable[[], _Reply], ask: Callable[[], Awaitable[_Reply]]
) -> _Reply:
    """The answer; or the status it ends with, and an empty message."""
    try:
        return await ask()
    except Refusal as refusal:
        status = refusal.status
    except JournalUnavailable:
        status = Status(Code.UNAVAILABLE, "the journal is unavailable")
    except Exception:
        logger.exception("a request ended in an unforeseen error")
        status = FAILED
    refuse(context, status)
    return empty()


def _entity(entity_id: str) -> EntityId:
    fault = fault_of_entity_id(entity_id)
    if fault is not None:
        raise invalid(fault)
    return EntityId(entity_id)


def _too_large(fitting: int) -> Refusal:
    text = f"the states are larger than {LARGEST_STATES} bytes after {fitting} of them; ask for fewer at once"
    return Refusal(Status(Code.RESOURCE_EXHAUSTED, text))


def _page_size(wanted: int) -> int:
    if wanted > LARGEST_PAGE:
        raise invalid(f"page_size is {wanted}; allowed: 1 to {LARGEST_PAGE}, or 0 for {USUAL_PAGE}")
    return wanted or USUAL_PAGE


def _listed(entity: ListedEntity) -> PbListedEntity:
    return PbListedEntity(
        entity_id=entity.entity_id, updated_at=date_to_pb(entity.updated_at), offset=entity.offset
    )
