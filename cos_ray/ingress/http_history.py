"""The past of entities, and which there are, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from cos_ray.ingress.grpc_bridge import GrpcBridge
from cos_ray.ingress.http_document import ANY_FORM, described
from cos_ray.ingress.http_forms import number_of, time_form, time_of
from cos_ray.ingress.http_middleware import decoded
from cos_ray.ingress.http_models import EntitiesShown, ErasureShown, EventsShown
from cos_ray.protocol.json_form import without_empty
from cos_ray.protocol.pb.cos_ray.v1.erasure_pb2 import EraseEntityRequest
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetEventsRequest, ListEntitiesRequest


def history_routes(api: FastAPI, bridge: GrpcBridge) -> None:
    """Add the bridge."""

    @api.get(
        "/v1/entities/{entity_id}/events",
        tags=["history"],
        response_model=EventsShown,
        openapi_extra=described(parameters=[ANY_FORM]),
    )
    async def events(
        entity_id: str,
        request: Request,
        first: Annotated[str | None, Query(alias="from", description="The first revision")] = None,
        last: Annotated[str | None, Query(alias="to", description="The last revision")] = None,
        page_size: Annotated[str | None, Query(description="At most 1000")] = None,
    ) -> JSONResponse:
        """Answer with an entity's events, page by page."""
        context, forms, id_ = bridge.context(request), bridge.forms(request), decoded(entity_id)
        asked = GetEventsRequest(
            from_revision=number_of(first, "from"),
            to_revision=number_of(last, "to"),
            page_size=number_of(page_size, "page_size"),
        )

        def build() -> GetEventsRequest:
            asked.entity_id = id_
            return asked

        reply = await bridge.call("GetEvents", build, context)
        found = [forms.event(event.event, event.resulting_state, event.meta) for event in reply.events]
        more = without_empty({"next_revision": reply.next_revision})
        return JSONResponse({"events": found, **more})

    @api.delete("/v1/entities/{entity_id}", tags=["erasure"], response_model=ErasureShown)
    async def erase(
        entity_id: str,
        request: Request,
        reason: Annotated[str, Query(description="Why, for the record")] = "",
    ) -> JSONResponse:
        """Remove everything an entity's events and states say, for good, where that is enabled."""
        context, id_ = bridge.context(request), decoded(entity_id)
        reply = await bridge.call(
            "EraseEntity", lambda: EraseEntityRequest(entity_id=id_, reason=reason), context
        )
        return JSONResponse({"erased_at": time_form(reply.erased_at), "events": reply.events})

    @api.get("/v1/entities", tags=["history"], response_model=EntitiesShown)
    async def entities(
        request: Request,
        prefix: str = "",
        updated_since: Annotated[str | None, Query(description="A time in ISO 8601")] = None,
        page_size: Annotated[str | None, Query(description="At most 1000")] = None,
        page_token: str = "",
    ) -> JSONResponse:
        """Answer with the entities there are, page by page."""
        context, size = bridge.context(request), number_of(page_size, "page_size")
        since = None if updated_since is None else time_of(updated_since, "updated_since")
        reply = await bridge.call(
            "ListEntities",
            lambda: ListEntitiesRequest(
                prefix=prefix, updated_since=since, page_size=size, page_token=page_token
            ),
            context,
        )
        found = [
            {"entity_id": one.entity_id, "updated_at": time_form(one.updated_at), "offset": one.offset}
            for one in reply.entities
        ]
        more = without_empty({"next_page_token": reply.next_page_token})
        return JSONResponse({"entities": found, **more})
