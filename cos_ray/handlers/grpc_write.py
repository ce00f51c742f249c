"""
Calls a write handler over gRPC.

Whatever the application answers, reaches the client as it is; whatever it breaks, reaches the
client as a status of ours with a plain sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any as Untyped
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import EntityState, Headers, Meta, Packed
from cos_ray.handlers.channels import GrpcTarget, open_channel
from cos_ray.protocol.codec import meta_to_pb, pack
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)

_SERVICE = "/chief_of_state.v1.WriteSideHandlerService/"
_Response = TypeVar("_Response", bound=Message)


@dataclass(frozen=True, slots=True)
class _Calls:
    """The two calls, bound to a channel; replies come as bytes, for a garbled one is told apart so."""

    channel: grpc.aio.Channel
    handle_command: Untyped
    handle_event: Untyped


class GrpcWriteHandler:
    """A write handler behind a gRPC address."""

    def __init__(self, target: GrpcTarget, call_timeout: timedelta) -> None:
        self._target = target
        self._call_timeout = call_timeout.total_seconds()
        self._opened: _Calls | None = None

    async def handle_command(
        self, command: Packed, prior: EntityState, headers: Headers, timeout: float
    ) -> Decision:
        """Which events the command leads to. Raises HandlerFailed."""
        request = HandleCommandRequest(prior_event_meta=meta_to_pb(prior.meta))
        _set(request.command, command)
        _set(request.prior_state, prior.state)
        metadata = tuple((header.key.lower(), header.value) for header in headers)
        reply = await self._call(
            self._calls.handle_command, request, HandleCommandResponse, timeout, metadata
        )
        return decide([pack(event) for event in reply.events], pack(reply.event))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to. Raises HandlerFailed, also for an answer without a state."""
        request = HandleEventRequest(event_meta=meta_to_pb(meta))
        _set(request.event, event)
        _set(request.prior_state, prior_state)
        reply = await self._call(self._calls.handle_event, request, HandleEventResponse, timeout, ())
        if not reply.HasField("resulting_state"):
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, "event handler replied with empty state"))
        return pack(reply.resulting_state)

    async def close(self) -> None:
        """Close the channel; calls in progress are cut."""
        if self._opened is not None:
            await self._opened.channel.close()
            self._opened = None

    @property
    def _calls(self) -> _Calls:
        # Opened in the loop that uses it, on first use: a channel belongs to one loop.
        if self._opened is None:
            channel = open_channel(self._target)
            self._opened = _Calls(
                channel,
                channel.unary_unary(_SERVICE + "HandleCommand"),
                channel.unary_unary(_SERVICE + "HandleEvent"),
            )
        return self._opened

    async def _call(
        self,
        call: Untyped,
        request: Message,
        response: type[_Response],
        timeout: float,
        metadata: tuple[tuple[str, str | bytes], ...],
    ) -> _Response:
        timeout = min(timeout, self._call_timeout)
        try:
            reply = await call(request.SerializeToString(), timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise HandlerFailed(_status_of(error)) from error
        except (TypeError, ValueError) as error:  # grpc's words for metadata it cannot send
            raise HandlerFailed(
                Status(Code.INVALID_ARGUMENT, f"a request header cannot be passed on: {error}")
            ) from error
        try:
            return response.FromString(reply)
        except DecodeError as error:
            problem = f"write handler's reply is no {response.DESCRIPTOR.name}"
            raise HandlerFailed(Status(Code.INTERNAL, problem)) from error


def _set(field: Message, packed: Packed) -> None:
    """Fill an `Any` field; an empty one is still sent as present (as in CoS)."""
    field.MergeFromString(packed)
    field.SetInParent()


def _status_of(error: grpc.aio.AioRpcError) -> Status:
    details = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = value
    return Status(Code(error.code().value[0]), error.details() or "", details)
