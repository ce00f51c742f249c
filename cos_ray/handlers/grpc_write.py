"""
Calls a write handler over gRPC.

A handler that serves streams is called in one (`write_stream`), any other in unary calls. Whatever
the application answers, reaches the client as it is; whatever it breaks, reaches the
client as a status of ours with a plain sentence.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Any as Untyped
from typing import Literal, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import EntityState, Header, Headers, Meta, Packed
from cos_ray.handlers.channels import open_channels
from cos_ray.handlers.endpoints import TOO_LARGE, GrpcEndpoint
from cos_ray.handlers.trace_headers import Outgoing, with_trace
from cos_ray.handlers.write_stream import WriteStream
from cos_ray.protocol.codec import header_to_pb, meta_into, pack
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)
from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2 import WriteSideAnswer, WriteSideCall

logger = logging.getLogger(__name__)

_NO_MESSAGE = Status(Code.INTERNAL, "write handler ended the call without a message")
_SERVICE = "/chief_of_state.v1.WriteSideHandlerService/"
_PRINTABLE = frozenset(map(chr, range(0x20, 0x7F)))
_Response = TypeVar("_Response", bound=Message)
_Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
_Kind: TypeAlias = Literal["command", "event"]


@dataclass(frozen=True, slots=True)
class _Calls:
    """A channel and its two calls. Replies are raw bytes: malformed ones differ from transport errors."""

    channel: grpc.aio.Channel
    stream: WriteStream
    unary: dict[_Kind, Untyped]


class GrpcWriteHandler:
    """A write handler behind a gRPC address."""

    def __init__(
        self, target: GrpcEndpoint, call_timeout: timedelta, outgoing: Outgoing | None = None
    ) -> None:
        """`outgoing`: tells of the current trace, where traces are on."""
        self._target = target
        self._outgoing = outgoing
        self._call_timeout = call_timeout.total_seconds()
        self._pool: list[_Calls] = []
        self._turns: Iterator[_Calls] = iter(())

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """Which events the command leads to. Raises HandlerFailed."""
        request = HandleCommandRequest()
        meta_into(request.prior_event_meta, prior.meta)
        _set(request.command, command)
        _set(request.prior_state, prior.state)
        # Where traces are on, each of the two calls has headers of its own.
        first = first if self._outgoing is None else None
        reply, ahead = await self._ask("command", request, HandleCommandResponse, headers, timeout, first)
        return decide([pack(event) for event in reply.events], pack(reply.event), _states(ahead))

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to. Raises HandlerFailed, also for an answer without a state."""
        request = HandleEventRequest()
        meta_into(request.event_meta, meta)
        _set(request.event, event)
        _set(request.prior_state, prior_state)
        reply, _ = await self._ask("event", request, HandleEventResponse, (), timeout)
        if not reply.HasField("resulting_state"):
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, "event handler replied with empty state"))
        return pack(reply.resulting_state)

    async def close(self) -> None:
        """Close the channels; calls in progress are cut."""
        pool, self._pool = self._pool, []
        for calls in pool:
            await calls.stream.close()
            await calls.channel.close()

    def _next(self) -> _Calls:
        """The calls of the channel whose turn it is. Raises HandlerFailed when none can be opened."""
        # Opened in the loop that uses them, on first use: a channel belongs to one loop.
        if not self._pool:
            try:
                channels = open_channels(self._target)
            except OSError as error:
                problem = f"write handler cannot be reached over TLS: {error.filename}: {error.strerror}"
                raise HandlerFailed(Status(Code.UNAVAILABLE, problem)) from error
            self._pool = [
                _Calls(
                    channel,
                    WriteStream(channel),
                    {
                        "command": channel.unary_unary(_SERVICE + "HandleCommand"),
                        "event": channel.unary_unary(_SERVICE + "HandleEvent"),
                    },
                )
                for channel in channels
            ]
            self._turns = itertools.cycle(self._pool)
        return next(self._turns)

    async def _ask(
        self,
        kind: _Kind,
        request: Message,
        response: type[_Response],
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> tuple[_Response, Sequence[HandleEventResponse]]:
        """
        The answer, from the stream where there is one; and what the handler has said ahead, given `first`.

        Raises HandlerFailed.
        """
        begun = time.monotonic()
        timeout = min(timeout, self._call_timeout)
        calls, metadata = self._next(), _metadata(with_trace(headers, self._outgoing))
        stream = calls.stream.opened()
        if stream is not None:
            call = WriteSideCall(headers=[header_to_pb(Header(key, value)) for key, value in metadata])
            getattr(call, kind).CopyFrom(request)
            if first is not None:
                meta_into(call.first_event_meta, first)
            try:
                answer = await stream.ask(call, timeout)
            except asyncio.TimeoutError:
                raise HandlerFailed(Status(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")) from None
            if answer is not None:
                return _reply(answer, kind, response), answer.states
            timeout = max(0.0, timeout - (time.monotonic() - begun))
        return await self._call(calls.unary[kind], request, response, timeout, metadata), ()

    async def _call(
        self,
        call: Untyped,
        request: Message,
        response: type[_Response],
        timeout: float,
        metadata: _Metadata,
    ) -> _Response:
        try:
            reply = await call(request.SerializeToString(), timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise HandlerFailed(_status_of(error)) from error
        except Exception as error:  # grpc has several of its own, none of them public
            logger.exception("write handler cannot be called")
            raise HandlerFailed(Status(Code.INTERNAL, "write handler cannot be called")) from error
        if reply is None:  # what grpc makes of a call that ended well, and without a message
            raise HandlerFailed(_NO_MESSAGE)
        try:
            return response.FromString(reply)
        except DecodeError as error:
            problem = f"write handler's reply is no {response.DESCRIPTOR.name}"
            raise HandlerFailed(Status(Code.INTERNAL, problem)) from error


def _reply(answer: WriteSideAnswer, kind: _Kind, type_: type[_Response]) -> _Response:
    """What the stream's answer holds. Raises HandlerFailed when that is a failure, or none of its kind."""
    match answer.WhichOneof("reply"):
        case "failure":
            failure = answer.failure
            raise HandlerFailed(_status(failure.code, failure.message, failure.details or None))
        case found if found == kind:
            reply = getattr(answer, kind)
            assert isinstance(reply, type_)
            return reply
        case _:
            problem = f"write handler's reply is no {type_.DESCRIPTOR.name}"
            raise HandlerFailed(Status(Code.INTERNAL, problem))


def _states(ahead: Sequence[HandleEventResponse]) -> list[Packed]:
    """Up to the first that says none: by itself it is asked for again, and refused."""
    return [pack(reply.resulting_state) for reply in takewhile(_has_state, ahead)]


def _has_state(reply: HandleEventResponse) -> bool:
    return reply.HasField("resulting_state")


def _metadata(headers: Headers) -> _Metadata:
    """The headers as metadata. Raises HandlerFailed for a value that metadata cannot hold."""
    for header in headers:
        if isinstance(header.value, str) and not _PRINTABLE.issuperset(header.value):
            text = f"request header {header.key} cannot be passed on: it holds more than printable ASCII"
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, text))
    return tuple((header.key.lower(), header.value) for header in headers)


def _set(field: Message, packed: Packed) -> None:
    """Fill an `Any` field; an empty one is still sent as present (as in CoS)."""
    field.MergeFromString(packed)
    field.SetInParent()


def _status(code: int, message: str, details: bytes | None) -> Status:
    """A failure's status; UNKNOWN for a code that gRPC does not know, and for OK, which is none."""
    known = code in Code.__members__.values() and code != 0
    return Status(Code(code) if known else Code.UNKNOWN, message, details)


def _status_of(error: grpc.aio.AioRpcError) -> Status:
    details = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = value or None
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.OK:
        return _NO_MESSAGE
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and message.startswith("CLIENT: "):
        # gRPC's own words: the call was never sent, or its reply not taken in.
        message = f"{message}: {TOO_LARGE}"
    return _status(code.value[0], message, details)
