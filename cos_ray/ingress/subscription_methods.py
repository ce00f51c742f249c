"""Subscribe, SubscribeAll and how they are ended: the streams of `chief_of_state.v1`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from contextlib import aclosing
from functools import partial
from typing import Protocol

from google.protobuf.any import pack
from google.protobuf.wrappers_pb2 import UInt64Value

from cos_ray.domain.errors import Code, ReplicasSilent, Status
from cos_ray.domain.ids import EntityId, fault_of_entity_id
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ingress.headers import client_of
from cos_ray.ingress.status import FAILED, ReplyContext, StreamRefused, refuse, refused_stream
from cos_ray.ingress.subscription_start import SubscriptionStart, subscription_start_of
from cos_ray.protocol.codec import event_fields
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    SubscribeAllRequest,
    SubscribeAllResponse,
    SubscribeRequest,
    SubscribeResponse,
    UnsubscribeAllRequest,
    UnsubscribeAllResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from cos_ray.subscriptions.listener import SubscriptionEnded
from cos_ray.subscriptions.subscriptions import Kind, Subscriptions, Wanted

logger = logging.getLogger(__name__)

NOT_ENABLED = Status(
    Code.UNIMPLEMENTED, "Subscription is not enabled; configure subscription to use streaming"
)
"""As in CoS."""

OFFSET = "cos_ray.offset"
"""Where a message of SubscribeAll has its offset, if asked for: in `meta.data`, a UInt64Value."""

_LONGEST_ID = 255


class Replicas(Protocol):
    """The processes that serve clients, this one among them."""

    async def end_subscription(self, kind: str, subscription_id: str) -> None:
        """Have all of them end the subscriptions of this id. Raises ReplicasSilent if one may not have."""
        ...


class SubscriptionParts(Protocol):
    """What these methods work with."""

    subscriptions: Subscriptions | None
    """None: they are switched off."""
    replicas: Replicas | None
    """The other processes that may have a subscription; None: there is no other."""


class SubscriptionMethods:
    """A part of `Ingress`."""

    _parts: SubscriptionParts

    async def Subscribe(
        self, request: SubscribeRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[SubscribeResponse]:
        """An entity's events as they are stored, from `x-cos-from-revision` on if that is given."""
        wanted = self._wanted_of_entity(request, grpc_context)
        async with aclosing(self._stream(wanted, grpc_context)) as events:
            async for event in events:
                assert isinstance(wanted, Wanted)
                yield SubscribeResponse(
                    subscription_id=wanted.subscription_id, **event_fields(event.envelope)
                )

    async def SubscribeAll(
        self, request: SubscribeAllRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[SubscribeAllResponse]:
        """All events, in the order of their offsets, after `x-cos-from-offset` if that is given."""
        place = self._place(grpc_context, of_all=True)
        wanted = self._wanted(request.subscription_id, None, place, grpc_context)
        async with aclosing(self._stream(wanted, grpc_context)) as events:
            async for event in events:
                assert isinstance(wanted, Wanted)
                message = SubscribeAllResponse(
                    subscription_id=wanted.subscription_id, **event_fields(event.envelope)
                )
                if isinstance(place, SubscriptionStart) and place.with_offset:
                    message.meta.data[OFFSET].CopyFrom(pack(UInt64Value(value=event.offset)))
                yield message

    async def Unsubscribe(
        self, request: UnsubscribeRequest, grpc_context: ReplyContext
    ) -> UnsubscribeResponse:
        """Complete the streams of this id, wherever they are; none is fine, too."""
        fault = await self._end(Kind.ENTITY, request.subscription_id)
        if fault is not None:
            refuse(grpc_context, fault)
            return UnsubscribeResponse()
        return UnsubscribeResponse(subscription_id=request.subscription_id)

    async def UnsubscribeAll(
        self, request: UnsubscribeAllRequest, grpc_context: ReplyContext
    ) -> UnsubscribeAllResponse:
        """Complete the streams of this id, wherever they are; none is fine, too."""
        fault = await self._end(Kind.ALL, request.subscription_id)
        if fault is not None:
            refuse(grpc_context, fault)
            return UnsubscribeAllResponse()
        return UnsubscribeAllResponse(subscription_id=request.subscription_id)

    async def end_subscription(self, kind: str, subscription_id: str) -> bool:
        """Complete what this process has of this id; called by its neighbours, not by clients."""
        subscriptions = self._parts.subscriptions
        return subscriptions is not None and subscriptions.end(Kind(kind), subscription_id)

    async def drain(self) -> None:
        """End all streams, for this process is about to stop; called before it does, not by clients."""
        if self._parts.subscriptions is not None:
            self._parts.subscriptions.drain()

    async def _stream(
        self, wanted: Wanted | Status, context: ReplyContext
    ) -> AsyncGenerator[JournaledEvent, None]:
        """The wanted events; what ends them early becomes the call's status."""
        subscriptions = self._parts.subscriptions
        if subscriptions is None:
            raise refused_stream(context, NOT_ENABLED)
        if isinstance(wanted, Status):
            raise refused_stream(context, wanted)
        try:
            note_live = getattr(context, "note_live", None)
            on_open = None if note_live is None else partial(note_live, wanted.subscription_id)
            async with aclosing(subscriptions.events(wanted, on_open)) as events:
                async for event in events:
                    yield event
        except SubscriptionEnded as error:
            raise refused_stream(context, error.status) from None
        except StreamRefused:
            raise
        except Exception:
            logger.exception("a stream ended in an unforeseen error")
            raise refused_stream(context, FAILED) from None

    def _wanted_of_entity(self, request: SubscribeRequest, context: ReplyContext) -> Wanted | Status:
        if not request.entity_id:
            return Status(Code.INVALID_ARGUMENT, "entity_id is required")
        fault = fault_of_entity_id(request.entity_id)
        if fault is not None:
            return Status(Code.INVALID_ARGUMENT, fault)
        place = self._place(context, of_all=False)
        return self._wanted(request.subscription_id, EntityId(request.entity_id), place, context)

    def _wanted(
        self,
        subscription_id: str,
        entity_id: EntityId | None,
        place: SubscriptionStart | Status,
        context: ReplyContext,
    ) -> Wanted | Status:
        if isinstance(place, Status):
            return place
        if len(subscription_id) > _LONGEST_ID:
            return Status(Code.INVALID_ARGUMENT, f"subscription_id is longer than {_LONGEST_ID} characters")
        return Wanted(
            subscription_id=subscription_id or str(uuid.uuid4()),
            entity_id=entity_id,
            first_revision=place.first_revision,
            after=place.after,
            client=self._client(context),
        )

    def _place(self, context: ReplyContext, *, of_all: bool) -> SubscriptionStart | Status:
        return subscription_start_of(context.invocation_metadata(), of_all=of_all)

    def _client(self, context: ReplyContext) -> Hashable:
        return client_of(context)

    async def _end(self, kind: Kind, subscription_id: str) -> Status | None:
        """End the streams of this id everywhere; the status if that cannot be said."""
        if self._parts.subscriptions is None:
            return NOT_ENABLED
        if not subscription_id:
            return Status(Code.INVALID_ARGUMENT, "subscription_id is required")
        self._parts.subscriptions.end(kind, subscription_id)
        if self._parts.replicas is None:
            return None
        try:
            await self._parts.replicas.end_subscription(kind.value, subscription_id)
        except ReplicasSilent as error:
            logger.warning("not all replicas were told of an unsubscription", extra={"reason": str(error)})
            return Status(Code.UNAVAILABLE, "not every process has confirmed; try again")
        return None
