"""Commands and states over HTTP, as in Chief of State."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from cos_ray.ingress.http_body import read_object, while_connected
from cos_ray.ingress.http_errors import bad_request
from cos_ray.ingress.http_forms import any_of, number_of, time_of
from cos_ray.ingress.http_models import CommandAsked, StatesAsked, StateShown, StatesShown, body_of
from cos_ray.ingress.raw_path import decoded
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetStateAtRequest, GetStatesRequest

if TYPE_CHECKING:
    from cos_ray.ingress.http_api import Door


def command_routes(api: FastAPI, door: Door) -> None:
    """Add the routes."""

    @api.post(
        "/v1/commands/{entity_id}/process",
        tags=["commands"],
        response_model=StateShown,
        openapi_extra=body_of(CommandAsked),
    )
    async def process(entity_id: str, request: Request) -> JSONResponse:
        """Run a command and answer with the state it led to, once that is stored."""
        forms, context = door.forms(request), door.context(request)
        fields = await read_object(request, door.largest_body, ("entity_id", "command"))
        command = any_of(door.any_forms, fields.get("command"), "command")
        call = door.call(
            "ProcessCommand",
            lambda: ProcessCommandRequest(entity_id=decoded(entity_id), command=command),
            context,
        )
        reply = await while_connected(request, call)
        return JSONResponse(forms.state(reply.state, reply.meta))

    @api.get("/v1/entities/{entity_id}/state", tags=["states"], response_model=StateShown)
    async def state(
        entity_id: str, request: Request, revision: str | None = None, at: str | None = None
    ) -> JSONResponse:
        """Answer with the state: now, at a revision, or `at` a time (ISO 8601)."""
        forms, context, id_ = door.forms(request), door.context(request), decoded(entity_id)
        if revision is not None and at is not None:
            raise bad_request("revision and at exclude each other")
        if revision is not None:
            number = number_of(revision, "revision")
            reply = await door.call(
                "GetStateAt", lambda: GetStateAtRequest(entity_id=id_, revision=number), context
            )
        elif at is not None:
            moment = time_of(at, "at")
            reply = await door.call(
                "GetStateAt", lambda: GetStateAtRequest(entity_id=id_, time=moment), context
            )
        else:
            reply = await door.call("GetState", lambda: GetStateRequest(entity_id=id_), context)
        return JSONResponse(forms.state(reply.state, reply.meta))

    @api.post("/v1/states", tags=["states"], response_model=StatesShown, openapi_extra=body_of(StatesAsked))
    async def states(request: Request) -> JSONResponse:
        """Answer with the states of several entities at once."""
        forms, context = door.forms(request), door.context(request)
        fields = await read_object(request, door.largest_body, ("entity_ids",))
        wanted = fields.get("entity_ids", [])
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise bad_request("entity_ids is no list of texts")
        entity_ids = [str(one) for one in wanted]
        reply = await door.call("GetStates", lambda: GetStatesRequest(entity_ids=entity_ids), context)
        found = [forms.state(one.state, one.meta) for one in reply.states]
        return JSONResponse({"states": found, "missing": list(reply.missing)})
