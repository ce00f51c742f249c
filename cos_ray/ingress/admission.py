"""
What every request passes before its method runs: bounds, and the question who calls.

Around all methods of all services alike, so that a new one cannot be forgotten. Requests over HTTP
come through the same methods. Health is left open.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from cos_ray.domain.authorization import ALL_ENTITIES, AccessPolicy, Caller
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.rate_limit import Rate
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.authentication import MISSING, caller_of
from cos_ray.ingress.headers import client_of
from cos_ray.ingress.refusals import Refusals
from cos_ray.ingress.status import ReplyContext, refuse, refused_stream
from cos_ray.ports import Clock, CommandMeter, Unmeasured

OPEN_TO_ALL = "grpc.health.v1.Health"

_ENTRY_OVERHEAD = 32
"""Bytes that an entry of metadata counts for beside its texts, as HTTP/2 has it."""

_MOST_IDS = 10_000
"""Of entities in one request, repeated ones included; looking at millions would hold up everybody."""

_OF_ALL_ENTITIES = frozenset({"SubscribeAll"})

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What is let in."""

    grpc: bool = True
    """Whether by gRPC; health is, always."""
    request_bytes: int = 32 * 1024 * 1024
    metadata_bytes: int = 16 * 1024
    requests_per_second: float | None = None
    """Of one client; None: as many as it likes."""
    access: AccessPolicy | None = None
    """None: anybody may call anything."""


class AdmissionControl:
    """Lets requests in, or says why not."""

    def __init__(
        self,
        policy: AdmissionPolicy,
        clock: Clock,
        meter: CommandMeter | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._meter = meter or Unmeasured()
        self._refusals = refusals or Refusals(self._meter, clock)
        self._policy = policy
        self._clock = clock
        self._rate = Rate(policy.requests_per_second) if policy.requests_per_second else None

    def refuses(self, method: str, request: Message, context: ReplyContext) -> Status | None:
        """Why the request is not let in; None if it is."""
        status = self._fault(method, request, context)
        if status is not None:
            self._meter.turned_away(status.code)
        return status

    def refuses_caller(self, context: ReplyContext) -> Status | None:
        """Why nothing is taken from who calls, whatever it is; asked before a body is read."""
        if self._policy.access is None:
            return None
        caller = caller_of(context.invocation_metadata(), self._policy.access)
        if isinstance(caller, Status):
            self._meter.turned_away(caller.code)
            self._note(context, _cause_of_caller(caller))
            return caller
        context.known_caller = caller  # type: ignore[attr-defined]
        return None

    def _fault(self, method: str, request: Message, context: ReplyContext) -> Status | None:
        checks = (self._of_size, self._of_caller, self._of_rate)
        if not self._policy.grpc and not getattr(context, "is_http", False):
            return Status(Code.UNIMPLEMENTED, "this service answers over HTTP; see COS_SERVER_PROTOCOL")
        for check in checks:
            status = check(method, request, context)
            if status is not None:
                return status
        return None

    def _of_size(self, method: str, request: Message, context: ReplyContext) -> Status | None:
        most = self._policy.metadata_bytes
        metadata = context.invocation_metadata()
        if sum(len(key) + len(value) + _ENTRY_OVERHEAD for key, value in metadata) > most:
            self._note(context, RefusalCause.METADATA)
            return Status(Code.RESOURCE_EXHAUSTED, f"the metadata is larger than {most} bytes")
        most = self._policy.request_bytes
        if request.ByteSize() > most:
            self._note(context, RefusalCause.MESSAGE)
            return Status(Code.RESOURCE_EXHAUSTED, f"the request is larger than {most} bytes")
        if len(getattr(request, "entity_ids", ())) > _MOST_IDS:
            self._note(context, RefusalCause.MESSAGE)
            return Status(Code.RESOURCE_EXHAUSTED, f"the request has more than {_MOST_IDS} entity_ids")
        return None

    def _of_caller(self, method: str, request: Message, context: ReplyContext) -> Status | None:
        if self._policy.access is None:
            return None
        known: Caller | None = getattr(context, "known_caller", None)
        caller = known or caller_of(context.invocation_metadata(), self._policy.access)
        if isinstance(caller, Status):
            self._note(context, _cause_of_caller(caller))
            return caller
        if not caller.may(method, touched(method, request)):
            self._note(context, RefusalCause.NOT_ALLOWED)
            return Status(Code.PERMISSION_DENIED, f"this caller may not call {method} for that")
        # A context is an object like any other, and lives as long as the call.
        context.caller = caller.name  # type: ignore[attr-defined]
        return None

    def _of_rate(self, method: str, request: Message, context: ReplyContext) -> Status | None:
        # Clients that cannot be told apart count as one.
        if self._rate is not None and not self._rate.takes(client_of(context), self._clock.monotonic()):
            self._note(context, RefusalCause.RATE)
            return Status(Code.RESOURCE_EXHAUSTED, "too many requests; slow down")
        return None

    def _note(self, context: ReplyContext, cause: RefusalCause) -> None:
        peer = getattr(context, "peer_address", None)
        port = PublicPort.HTTP if getattr(context, "is_http", False) else PublicPort.GRPC
        self._refusals.add(port, cause, None if peer is None else peer())


def _cause_of_caller(status: Status) -> RefusalCause:
    return RefusalCause.NO_TOKEN if status is MISSING else RefusalCause.BAD_TOKEN


def touched(method: str, request: Message) -> Sequence[str] | None:
    """What the ids of the entities that a request is about begin with; None: it is about none."""
    if method in _OF_ALL_ENTITIES:
        return [ALL_ENTITIES]
    fields = request.DESCRIPTOR.fields_by_name
    if "entity_id" in fields:
        return [request.entity_id]  # type: ignore[attr-defined]
    if "entity_ids" in fields:
        return list(request.entity_ids)  # type: ignore[attr-defined]
    if "prefix" in fields:
        return [request.prefix]  # type: ignore[attr-defined]
    return None


def guarded(services: Sequence[str]) -> Any:
    """Decorates a class: its methods of these services are called only for what its `_guard` lets in."""

    def decorate(cls: _Class) -> _Class:
        for service in services:
            if service == OPEN_TO_ALL:
                continue
            for method in descriptor_pool.Default().FindServiceByName(service).methods:
                setattr(cls, method.name, _guarded(getattr(cls, method.name), method))
        return cls

    return decorate


def _guarded(call: Any, method: MethodDescriptor) -> Any:
    name = method.name
    if method.server_streaming:

        @functools.wraps(call)
        async def stream(
            self: Any, request: Message, grpc_context: ReplyContext
        ) -> AsyncGenerator[Any, None]:
            status = self._guard.refuses(name, request, grpc_context)
            if status is not None:
                raise refused_stream(grpc_context, status)
            async with aclosing(call(self, request, grpc_context)) as messages:
                async for message in messages:
                    yield message

        return stream

    reply = message_factory.GetMessageClass(method.output_type)

    @functools.wraps(call)
    async def unary(self: Any, request: Message, grpc_context: ReplyContext) -> Any:
        status = self._guard.refuses(name, request, grpc_context)
        if status is not None:
            refuse(grpc_context, status)
            return reply()
        return await call(self, request, grpc_context)

    return unary
