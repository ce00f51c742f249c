"""Subscriptions over HTTP: server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from google.protobuf.wrappers_pb2 import UInt64Value

from cos_ray.ingress.command_options import is_whole_number
from cos_ray.ingress.event_stream import event_stream, new_subscription_id
from cos_ray.ingress.grpc_bridge import GrpcBridge
from cos_ray.ingress.http_document import (
    ANY_FORM,
    ENTITY_STREAM_HEADERS,
    LAST_EVENT_ID,
    STREAM_HEADERS,
    STREAM_REPLY_HEADERS,
    described,
)
from cos_ray.ingress.http_errors import bad_request
from cos_ray.ingress.http_middleware import decoded
from cos_ray.ingress.http_models import ERRORS
from cos_ray.ingress.subscription_methods import OFFSET
from cos_ray.ingress.subscription_start import FROM_OFFSET, FROM_REVISION, WITH_OFFSET
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import SubscribeAllRequest, SubscribeRequest

_STREAM: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    200: {
        "description": "Server-sent events, each with an id to go on from by Last-Event-ID",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
}


def stream_routes(api: FastAPI, bridge: GrpcBridge) -> None:
    """Add the bridge."""

    @api.get(
        "/v1/entities/{entity_id}/events/stream",
        tags=["streams"],
        response_class=Response,
        responses=_STREAM,
        openapi_extra=described(
            parameters=[ANY_FORM, *ENTITY_STREAM_HEADERS], reply_headers=STREAM_REPLY_HEADERS
        ),
    )
    async def of_entity(
        entity_id: str,
        request: Request,
        from_revision: Annotated[str | None, Query(description="The first revision; else live only")] = None,
        subscription_id: str = "",
    ) -> Response:
        """Stream an entity's events."""
        context, forms, id_ = bridge.context(request), bridge.forms(request), decoded(entity_id)
        context.add(_place(request, from_revision, FROM_REVISION, after_last=1))
        name = subscription_id or new_subscription_id()
        messages = bridge.stream(
            "Subscribe", lambda: SubscribeRequest(entity_id=id_, subscription_id=name), context
        )

        def shown(message: Any) -> tuple[str, Any]:
            form = forms.event(message.event, message.resulting_state, message.meta, message.subscription_id)
            return str(message.meta.revision_number), form

        return await event_stream(messages, context, name, shown)

    @api.get(
        "/v1/events/stream",
        tags=["streams"],
        response_class=Response,
        responses=_STREAM,
        openapi_extra=described(parameters=[ANY_FORM, *STREAM_HEADERS], reply_headers=STREAM_REPLY_HEADERS),
    )
    async def of_all(
        request: Request,
        from_offset: Annotated[str | None, Query(description="After this offset; else live only")] = None,
        subscription_id: str = "",
    ) -> Response:
        """Stream the events of all entities, in the order of their offsets."""
        context, forms = bridge.context(request), bridge.forms(request)
        context.add(_place(request, from_offset, FROM_OFFSET, after_last=0))
        if WITH_OFFSET not in request.headers:
            context.add([(WITH_OFFSET, "true")])
        name = subscription_id or new_subscription_id()
        messages = bridge.stream("SubscribeAll", lambda: SubscribeAllRequest(subscription_id=name), context)

        def shown(message: Any) -> tuple[str, Any]:
            offset = UInt64Value()
            message.meta.data[OFFSET].Unpack(offset)
            del message.meta.data[OFFSET]
            form = forms.event(message.event, message.resulting_state, message.meta, message.subscription_id)
            return str(offset.value or ""), form

        return await event_stream(messages, context, name, shown)


def _place(request: Request, asked: str | None, header: str, *, after_last: int) -> list[tuple[str, str]]:
    """Where to begin: after what a returning client has seen, else where it asks for, in query or header."""
    seen = request.headers.get(LAST_EVENT_ID)
    if seen is not None and header not in request.headers:
        if not is_whole_number(seen):
            raise bad_request(f"Last-Event-ID is {seen[:100]!r}; allowed: a whole number from 0")
        return [(header, str(int(seen) + after_last))]
    return [] if asked is None else [(header, asked)]
