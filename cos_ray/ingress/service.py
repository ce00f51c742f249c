"""
What clients call: one class, its methods named after the RPCs, for Ray Serve to host.

Serve finds a method by the last part of an RPC's path, so the names here are the wire's, and
every method of a registered service must be defined.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from typing_extensions import assert_never

from cos_ray.domain.errors import Code, JournalUnavailable, Status
from cos_ray.domain.ids import CommandId, EntityId, fault_of_entity_id
from cos_ray.domain.messages import Accepted, Command, EntityState, Refused, TryElsewhere
from cos_ray.ingress.demands import demands_of
from cos_ray.ingress.headers import select_headers
from cos_ray.ingress.http_api import build_http_api
from cos_ray.ingress.status import ReplyContext, refuse, refused_stream
from cos_ray.ports import EntityGateway
from cos_ray.protocol.codec import pack, state_fields
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    GetStateResponse,
    ProcessCommandRequest,
    ProcessCommandResponse,
    SubscribeAllRequest,
    SubscribeAllResponse,
    SubscribeRequest,
    SubscribeResponse,
    UnsubscribeAllRequest,
    UnsubscribeAllResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
)

logger = logging.getLogger(__name__)

SERVICES = ("chief_of_state.v1.ChiefOfStateService", "grpc.health.v1.Health")
"""The gRPC services answered here."""

SERVICER_FUNCTIONS = (
    "cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc.add_ChiefOfStateServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)
"""Where Serve finds the services' registration, importable on every node."""

_NO_SUBSCRIPTIONS = Status(
    Code.UNIMPLEMENTED, "Subscription is not enabled; configure subscription to use streaming"
)

_FAILED = Status(Code.INTERNAL, "the service failed; its log says why")
"""For a fault of ours: what is raised through Serve would show the client a stack trace."""


@dataclass(frozen=True, slots=True)
class IngressPolicy:
    """What every command gets on its way in."""

    command_timeout: float
    """Seconds for a command, everything included."""
    propagated_headers: tuple[str, ...] = ()
    """Metadata keys that the write handler's HandleCommand is to see."""
    persisted_headers: tuple[str, ...] = ()
    """Metadata keys that are stored with each event."""
    commands_at_once: int = 5_000
    """How many commands one replica has in hand; the next are turned away."""


class Parts(Protocol):
    """What the ingress is put together from, in the process it runs in."""

    gateway: EntityGateway
    policy: IngressPolicy

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Ingress:
    """Answers clients; one instance in each Serve replica."""

    async def __init__(self, build: Callable[[], Awaitable[Parts]]) -> None:  # type: ignore[misc]
        # Serve awaits an async constructor; whatever `build` opens belongs to the replica's loop.
        self._parts = await build()
        self._origin = uuid.uuid4().hex
        self._serial = itertools.count(1)
        self._in_hand = 0

    async def ProcessCommand(
        self, request: ProcessCommandRequest, grpc_context: ReplyContext
    ) -> ProcessCommandResponse:
        """Run a command and answer with the state it led to, once that is stored."""
        try:
            outcome = await self._process(request, grpc_context)
            if isinstance(outcome, EntityState):
                return ProcessCommandResponse(**state_fields(outcome))
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            outcome = _FAILED
        refuse(grpc_context, outcome)
        return ProcessCommandResponse()

    async def GetState(self, request: GetStateRequest, grpc_context: ReplyContext) -> GetStateResponse:
        """Answer with the state after every acknowledged command; NOT_FOUND without events."""
        try:
            outcome = await self._state(request)
            if isinstance(outcome, EntityState):
                return GetStateResponse(**state_fields(outcome))
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            outcome = _FAILED
        refuse(grpc_context, outcome)
        return GetStateResponse()

    async def Subscribe(
        self, request: SubscribeRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[SubscribeResponse]:
        """Streams are not part of this release."""
        raise refused_stream(grpc_context, _NO_SUBSCRIPTIONS)
        yield

    async def SubscribeAll(
        self, request: SubscribeAllRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[SubscribeAllResponse]:
        """Streams are not part of this release."""
        raise refused_stream(grpc_context, _NO_SUBSCRIPTIONS)
        yield

    async def Unsubscribe(
        self, request: UnsubscribeRequest, grpc_context: ReplyContext
    ) -> UnsubscribeResponse:
        """Streams are not part of this release."""
        refuse(grpc_context, _NO_SUBSCRIPTIONS)
        return UnsubscribeResponse()

    async def UnsubscribeAll(
        self, request: UnsubscribeAllRequest, grpc_context: ReplyContext
    ) -> UnsubscribeAllResponse:
        """Streams are not part of this release."""
        refuse(grpc_context, _NO_SUBSCRIPTIONS)
        return UnsubscribeAllResponse()

    async def Check(self, request: HealthCheckRequest, grpc_context: ReplyContext) -> HealthCheckResponse:
        """grpc.health.v1: SERVING for "" and each service here, NOT_FOUND for others."""
        if request.service and request.service not in SERVICES:
            refuse(grpc_context, Status(Code.NOT_FOUND, f"unknown service {request.service}"))
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    async def Watch(
        self, request: HealthCheckRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[HealthCheckResponse]:
        """grpc.health.v1 allows servers to leave this out; clients then poll Check."""
        raise refused_stream(grpc_context, Status(Code.UNIMPLEMENTED, "use Check"))
        yield

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve calls, once the constructor is through, for the HTTP side."""
        return build_http_api()

    async def close(self) -> None:
        """Let go of connections."""
        await self._parts.close()

    async def _process(self, request: ProcessCommandRequest, context: ReplyContext) -> EntityState | Status:
        command = self._command(request, context)
        if isinstance(command, Status):
            return command
        if self._in_hand >= self._parts.policy.commands_at_once:
            return Status(Code.RESOURCE_EXHAUSTED, "too many commands are in progress")
        self._in_hand += 1
        try:
            reply = await self._parts.gateway.process(command)
        finally:
            self._in_hand -= 1
        match reply:
            case Accepted(state):
                return state
            case Refused(status):
                return status
            case TryElsewhere():
                raise AssertionError("the gateway settles this itself")
            case unreachable:
                assert_never(unreachable)

    async def _state(self, request: GetStateRequest) -> EntityState | Status:
        fault = fault_of_entity_id(request.entity_id)
        if fault is not None:
            return Status(Code.INVALID_ARGUMENT, fault)
        try:
            state = await self._parts.gateway.state(EntityId(request.entity_id))
        except JournalUnavailable:
            return Status(Code.UNAVAILABLE, "the journal is unavailable")
        return state if state.exists else Status(Code.NOT_FOUND)

    def _command(self, request: ProcessCommandRequest, context: ReplyContext) -> Command | Status:
        fault = fault_of_entity_id(request.entity_id)
        if fault is not None:
            return Status(Code.INVALID_ARGUMENT, fault)
        metadata = context.invocation_metadata()
        demands = demands_of(metadata)
        if isinstance(demands, Status):
            return demands
        policy = self._parts.policy
        return Command(
            entity_id=EntityId(request.entity_id),
            payload=pack(request.command),
            command_id=CommandId(f"{self._origin}-{next(self._serial)}"),
            budget=policy.command_timeout,
            propagated=select_headers(metadata, policy.propagated_headers),
            persisted=select_headers(metadata, policy.persisted_headers),
            key=demands.key,
            expected_revision=demands.expected_revision,
            sent_at=time.time(),
        )
