"""Commands and states over HTTP, as in Chief of State."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from cos_ray.ingress.grpc_bridge import GrpcBridge
from cos_ray.ingress.http_body import read_object, while_connected
from cos_ray.ingress.http_document import (
    ANY_FORM,
    COMMAND_HEADERS,
    COMMAND_REPLY_HEADERS,
    described,
)
from cos_ray.ingress.http_errors import bad_request
from cos_ray.ingress.http_forms import any_of, number_of, time_of
from cos_ray.ingress.http_middleware import decoded
from cos_ray.ingress.http_models import CommandAsked, StatesAsked, StateShown, StatesShown
from cos_ray.protocol.json_form import Json
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetStateAtRequest, GetStatesRequest


def _check_id(fields: dict[str, Json]) -> None:
    """The path wins, but what is no id is no request either. Raises HttpError."""
    if not isinstance(fields.get("entity_id"), str | None):
        raise bad_request("entity_id is no text")


def command_routes(api: FastAPI, bridge: GrpcBridge) -> None:
    """Add the bridge."""

    @api.post(
        "/v1/commands/{entity_id}/process",
        tags=["commands"],
        response_model=StateShown,
        openapi_extra=described(
            parameters=[ANY_FORM, *COMMAND_HEADERS], body=CommandAsked, reply_headers=COMMAND_REPLY_HEADERS
        ),
    )
    async def process(entity_id: str, request: Request) -> JSONResponse:
        """Run a command and answer with the state it led to, once that is stored."""
        context, forms = bridge.context(request), bridge.forms(request)
        fields = await read_object(request, bridge.largest_body, ("entity_id", "command"))
        _check_id(fields)
        command = any_of(bridge.any_forms, fields.get("command"), "command")
        call = bridge.call(
            "ProcessCommand",
            lambda: ProcessCommandRequest(entity_id=decoded(entity_id), command=command),
            context,
        )
        reply = await while_connected(request, call)
        return JSONResponse(forms.state(reply.state, reply.meta), headers=context.reply_headers)

    @api.get(
        "/v1/entities/{entity_id}/state",
        tags=["states"],
        response_model=StateShown,
        openapi_extra=described(parameters=[ANY_FORM]),
    )
    async def state(
        entity_id: str, request: Request, revision: str | None = None, at: str | None = None
    ) -> JSONResponse:
        """Answer with the state: now, at a revision, or `at` a time (ISO 8601)."""
        context, forms, id_ = bridge.context(request), bridge.forms(request), decoded(entity_id)
        if revision is not None and at is not None:
            raise bad_request("revision and at exclude each other")
        if revision is not None:
            number = number_of(revision, "revision")
            reply = await bridge.call(
                "GetStateAt", lambda: GetStateAtRequest(entity_id=id_, revision=number), context
            )
        elif at is not None:
            moment = time_of(at, "at")
            reply = await bridge.call(
                "GetStateAt", lambda: GetStateAtRequest(entity_id=id_, time=moment), context
            )
        else:
            reply = await bridge.call("GetState", lambda: GetStateRequest(entity_id=id_), context)
        return JSONResponse(forms.state(reply.state, reply.meta))

    @api.post(
        "/v1/states",
        tags=["states"],
        response_model=StatesShown,
        openapi_extra=described(parameters=[ANY_FORM], body=StatesAsked),
    )
    async def states(request: Request) -> JSONResponse:
        """Answer with the states of several entities at once."""
        context, forms = bridge.context(request), bridge.forms(request)
        fields = await read_object(request, bridge.largest_body, ("entity_ids",), required=("entity_ids",))
        wanted = fields["entity_ids"]
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise bad_request("entity_ids is no list of texts")
        entity_ids = [str(one) for one in wanted]
        reply = await bridge.call("GetStates", lambda: GetStatesRequest(entity_ids=entity_ids), context)
        found = [forms.state(one.state, one.meta) for one in reply.states]
        return JSONResponse({"states": found, "missing": list(reply.missing)})
