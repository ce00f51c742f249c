"""
Calls a read handler over gRPC.

Only `successful = true` confirms an event. Everything else is one and the same failure, with a
sentence for the log that says what came instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any as Untyped

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cos_ray.domain.errors import Code, DeliveryFailed
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import EventEnvelope
from cos_ray.handlers.channels import open_channels
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.handlers.read_metadata import read_metadata
from cos_ray.handlers.trace_headers import Outgoing
from cos_ray.protocol.codec import meta_to_pb
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse

_METHOD = "/chief_of_state.v1.ReadSideHandlerService/HandleReadSide"


@dataclass(frozen=True, slots=True)
class _Opened:
    """A channel and its call. Replies are raw bytes, so that malformed ones differ from transport errors."""

    channel: grpc.aio.Channel
    handle_read_side: Untyped


class GrpcReadHandler:
    """A read handler behind a gRPC address."""

    def __init__(self, target: GrpcEndpoint, timeout: timedelta, outgoing: Outgoing | None = None) -> None:
        """`outgoing`: tells of the current trace, where traces are on."""
        self._target = target
        self._outgoing = outgoing
        self._timeout = timeout.total_seconds()
        self._pool: list[_Opened] = []
        self._turns: Iterator[_Opened] = iter(())

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Deliver one event; raises DeliveryFailed unless the handler confirms it in time."""
        try:
            reply = await self._call(read_side, shard, envelope)
        except grpc.aio.AioRpcError as error:
            reason = self._reason(error)
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                octets = len(envelope.event) + len(envelope.resulting_state)
                reason += f" (the event and its state have {octets} bytes)"
            raise DeliveryFailed(reason, _code_of(error)) from error
        except DecodeError as error:
            raise DeliveryFailed("the reply is no HandleReadSideResponse", Code.INTERNAL) from error
        except DeliveryFailed:
            raise
        except Exception as error:  # whatever cannot be sent must not end the one who sends
            raise DeliveryFailed(f"cannot be sent: {type(error).__name__}: {error}") from error
        if not reply.successful:
            raise DeliveryFailed("the handler answered successful = false")

    async def close(self) -> None:
        """Close the channels; calls in progress are cut."""
        pool, self._pool = self._pool, []
        for opened in pool:
            await opened.channel.close()

    async def _call(
        self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope
    ) -> HandleReadSideResponse:
        request = HandleReadSideRequest(meta=meta_to_pb(envelope.meta), read_side_id=read_side)
        request.event.MergeFromString(envelope.event)
        request.state.MergeFromString(envelope.resulting_state)
        metadata: tuple[tuple[str, str | bytes], ...] = read_metadata(shard, envelope.meta.entity_id)
        if self._outgoing is not None:
            metadata += tuple((header.key, header.value) for header in self._outgoing())
        call = self._next().handle_read_side
        reply = await call(request.SerializeToString(), timeout=self._timeout, metadata=metadata)
        if reply is None:  # what grpc makes of a call that ended well, and without a message
            raise DeliveryFailed("the handler ended the call without a message", Code.INTERNAL)
        return HandleReadSideResponse.FromString(reply)

    def _next(self) -> _Opened:
        # Opened in the loop that uses them, on first use: a channel belongs to one loop.
        if not self._pool:
            channels = open_channels(self._target)
            self._pool = [_Opened(channel, channel.unary_unary(_METHOD)) for channel in channels]
            self._turns = itertools.cycle(self._pool)
        return next(self._turns)

    def _reason(self, error: grpc.aio.AioRpcError) -> str:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer from {self._target} within {self._timeout:g} s"
        return f"{error.code().name}: {error.details()}"


def _code_of(error: grpc.aio.AioRpcError) -> Code:
    """How the call ended; OK, which is no failure, counts as INTERNAL."""
    code = error.code()
    return Code.INTERNAL if code is grpc.StatusCode.OK else Code(code.value[0])
