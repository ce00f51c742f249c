"""
What clients call: one class, its methods named after the RPCs, for Ray Serve to host.

Serve finds a method by the last part of an RPC's path, so the names here are the wire's, and
every method of a registered service must be defined.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from fastapi import FastAPI
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from typing_extensions import assert_never

from cos_ray.domain.erasure import ERASE
from cos_ray.domain.errors import Code, JournalUnavailable, Status
from cos_ray.domain.ids import CommandId, EntityId, ReadSideId, fault_of_entity_id
from cos_ray.domain.messages import Accepted, Command, EntityState, Refused, TryElsewhere
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.domain.status import IngressStatus
from cos_ray.ingress.admission import AdmissionControl, AdmissionPolicy, guarded
from cos_ray.ingress.command_options import command_options_of
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.erasure_methods import ErasureMethods, ErasureParts
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.headers import select_headers
from cos_ray.ingress.history_methods import HistoryMethods, HistoryParts
from cos_ray.ingress.http_api import build_http_api
from cos_ray.ingress.listener_settings import ListenerSettings
from cos_ray.ingress.operations_methods import (
    OPERATIONS_SERVICE,
    OPERATIONS_SERVICER_FUNCTION,
    OperationsMethods,
)
from cos_ray.ingress.read_side_methods import (
    READ_SIDE_SERVICER_FUNCTIONS,
    READ_SIDE_SERVICES,
    ReadSideMethods,
)
from cos_ray.ingress.read_your_writes import PENDING, awaited_read_side, is_pending
from cos_ray.ingress.readiness import Check, Readiness
from cos_ray.ingress.refusals import Refusals
from cos_ray.ingress.status import FAILED, ReplyContext, refuse
from cos_ray.ingress.subscription_methods import SubscriptionMethods, SubscriptionParts
from cos_ray.ingress.tracing import TracingParts, traced
from cos_ray.ports import CommandMeter, EntityGateway, Operations
from cos_ray.protocol.any_form import AnyForms
from cos_ray.protocol.codec import pack, showing
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    GetStateResponse,
    ProcessCommandRequest,
    ProcessCommandResponse,
)
from cos_ray.readside.management import ReadSideManagement
from cos_ray.system.clock import SystemClock

logger = logging.getLogger(__name__)

SERVICES = (
    "chief_of_state.v1.ChiefOfStateService",
    "cos_ray.v1.HistoryService",
    "cos_ray.v1.ErasureService",
    *READ_SIDE_SERVICES,
    OPERATIONS_SERVICE,
    "grpc.health.v1.Health",
)
"""The gRPC services answered here."""

SERVICER_FUNCTIONS = (
    "cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc.add_ChiefOfStateServiceServicer_to_server",
    "cos_ray.protocol.pb.cos_ray.v1.history_pb2_grpc.add_HistoryServiceServicer_to_server",
    "cos_ray.protocol.pb.cos_ray.v1.erasure_pb2_grpc.add_ErasureServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
    *READ_SIDE_SERVICER_FUNCTIONS,
    OPERATIONS_SERVICER_FUNCTION,
)
"""Where Serve finds the services' registration, importable on every node."""


WATCH_EVERY = 1.0
"""Seconds between two looks whether those who watch the health are to be told something new."""


class IngressDependencies(SubscriptionParts, HistoryParts, ErasureParts, TracingParts, Protocol):
    """What the ingress is put together from, in the process it runs in."""

    gateway: EntityGateway
    policy: CommandPolicy
    admission: AdmissionPolicy
    http: HttpPolicy
    listeners: ListenerSettings | None
    """None: others listen, and call the methods."""
    any_forms: AnyForms
    checks: Mapping[str, Check]
    """By which each part that commands need says that it is well."""
    read_sides: ReadSideManagement
    operations: Operations
    whereabouts: tuple[str, int]
    """The node's address and this process's id."""
    meter: CommandMeter

    async def ends_with_service(self) -> bool:
        """Whether a replica that is to end now has no successor, for the whole service ends."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@traced(SERVICES)
@guarded(SERVICES)
class Ingress(SubscriptionMethods, HistoryMethods, ErasureMethods, ReadSideMethods, OperationsMethods):
    """Answers clients; one instance in each Serve replica."""

    async def __init__(self, build: Callable[[], Awaitable[IngressDependencies]]) -> None:  # type: ignore[misc]
        # Serve awaits an async constructor; whatever `build` opens belongs to the replica's loop.
        self._parts: IngressDependencies = await build()
        self._refusals = Refusals(self._parts.meter, SystemClock())
        self._guard = AdmissionControl(
            self._parts.admission, SystemClock(), self._parts.meter, self._refusals
        )
        self._readiness = Readiness(self._parts.checks, SystemClock())
        self._origin = uuid.uuid4().hex
        self._serial = itertools.count(1)
        self._in_hand = 0
        self._commands = 0

    def refuses_caller(self, context: ReplyContext) -> Status | None:
        """Why nothing is taken from who calls; asked before a body or message is read."""
        return self._guard.refuses_caller(context)

    def note_large_body(self, source: str | None) -> None:
        """The HTTP API has refused a body that is too large, from this address."""
        self._refusals.add(PublicPort.HTTP, RefusalCause.MESSAGE, source)

    async def ProcessCommand(
        self, request: ProcessCommandRequest, grpc_context: ReplyContext
    ) -> ProcessCommandResponse:
        """Run a command and answer with the state it led to, once that is stored."""
        try:
            outcome = await self._process(request, grpc_context)
            if isinstance(outcome, EntityState):
                return showing(ProcessCommandResponse(), outcome)
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            outcome = FAILED
        refuse(grpc_context, outcome)
        return ProcessCommandResponse()

    async def GetState(self, request: GetStateRequest, grpc_context: ReplyContext) -> GetStateResponse:
        """Answer with the state after every acknowledged command; NOT_FOUND without events."""
        try:
            outcome = await self._state(request)
            if isinstance(outcome, EntityState):
                return showing(GetStateResponse(), outcome)
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            outcome = FAILED
        refuse(grpc_context, outcome)
        return GetStateResponse()

    async def Check(self, request: HealthCheckRequest, grpc_context: ReplyContext) -> HealthCheckResponse:
        """grpc.health.v1, for "" and each service here: SERVING while commands would be taken."""
        if request.service and request.service not in SERVICES:
            refuse(grpc_context, Status(Code.NOT_FOUND, f"unknown service {request.service}"))
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        if await self._readiness.faults():
            return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    async def Watch(
        self, request: HealthCheckRequest, grpc_context: ReplyContext
    ) -> AsyncIterator[HealthCheckResponse]:
        """grpc.health.v1: the answer of Check, now and whenever it changes."""
        if request.service and request.service not in SERVICES:
            # As grpc.health.v1 has it: a service may yet come.
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            return
        told = None
        while True:
            faults = await self._readiness.faults()
            status = HealthCheckResponse.NOT_SERVING if faults else HealthCheckResponse.SERVING
            if status != told:
                told = status
                yield HealthCheckResponse(status=status)
            if await self._readiness.drains_within(WATCH_EVERY):
                break
        yield HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)

    async def drain(self) -> None:
        """End all streams, for this process is about to stop; called before it does, not by clients."""
        self._readiness.drain()
        await super().drain()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve calls, once the constructor is through, for the HTTP side."""
        return build_http_api(self, self._readiness, self._parts.http, self._parts.any_forms)

    async def close(self) -> None:
        """Let go of connections."""
        await self._parts.close()

    @property
    def in_hand(self) -> int:
        """How many commands have not been answered yet."""
        return self._in_hand

    async def own_status(self) -> IngressStatus:
        """How this replica is; asked by another one, not by clients."""
        return IngressStatus(*self._parts.whereabouts, self._in_hand, self._commands)

    def _operations(self) -> Operations:
        return self._parts.operations

    def _read_side_management(self) -> ReadSideManagement:
        return self._parts.read_sides

    async def _process(self, request: ProcessCommandRequest, context: ReplyContext) -> EntityState | Status:
        begun = time.monotonic()
        self._parts.meter.begun()
        code: Code | None = Code.INTERNAL
        try:
            outcome = await self._process_at_once(request, context)
            code = outcome.code if isinstance(outcome, Status) else None
            return outcome
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        finally:
            self._parts.meter.answered(code, time.monotonic() - begun)

    async def _process_at_once(
        self, request: ProcessCommandRequest, context: ReplyContext
    ) -> EntityState | Status:
        command = self._command(request, context)
        if isinstance(command, Status):
            return command
        awaited = awaited_read_side(context.invocation_metadata(), self._parts.read_sides)
        if isinstance(awaited, Status):
            return awaited
        if self._in_hand >= self._parts.policy.commands_at_once:
            return Status(Code.RESOURCE_EXHAUSTED, "too many commands are in progress")
        self._in_hand += 1
        try:
            return await self._run(command, awaited, context)
        finally:
            self._in_hand -= 1
            self._commands += 1

    async def _run(
        self, command: Command, awaited: ReadSideId | None, context: ReplyContext
    ) -> EntityState | Status:
        deadline = time.monotonic() + command.budget
        reply = await self._parts.gateway.process(command)
        match reply:
            case Accepted(state):
                if self._parts.subscriptions is not None:
                    self._parts.subscriptions.notify()
                if awaited is not None:
                    left = deadline - time.monotonic()
                    if await is_pending(self._parts.read_sides, awaited, state, left):
                        context.set_trailing_metadata([(PENDING, awaited)])
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
        payload = pack(request.command)
        if payload == ERASE:
            return Status(Code.INVALID_ARGUMENT, "entities are erased by EraseEntity")
        metadata = context.invocation_metadata()
        demands = command_options_of(metadata)
        if isinstance(demands, Status):
            return demands
        policy = self._parts.policy
        return Command(
            entity_id=EntityId(request.entity_id),
            payload=payload,
            command_id=CommandId(f"{self._origin}-{next(self._serial)}"),
            budget=min(policy.command_timeout, demands.timeout or math.inf, _time_left(context)),
            propagated=select_headers(metadata, policy.propagated_headers),
            persisted=select_headers(metadata, policy.persisted_headers),
            key=demands.key,
            expected_revision=demands.expected_revision,
            sent_at=time.time(),
        )


def _time_left(context: ReplyContext) -> float:
    """Seconds until the client's deadline; infinite where there is none, or Serve's proxy hides it."""
    time_remaining = getattr(context, "time_remaining", None)
    left = None if time_remaining is None else time_remaining()
    return math.inf if left is None else max(0.0, left)
