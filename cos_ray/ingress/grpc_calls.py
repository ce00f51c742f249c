"""From a call of gRPC's server to a call of an ingress method, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.headers import header_text
from cos_ray.ingress.status import FAILED, StreamRefused, refuse

logger = logging.getLogger(__name__)

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

SUBSCRIPTION_ID = "x-cos-subscription-id"
"""The initial metadata that says that a subscription is live."""


class GrpcContext:
    """The `ReplyContext` of a call: gRPC's own context, and what is noted on it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._metadata: list[tuple[str, str | bytes]] = list(context.invocation_metadata() or ())
        self._code: grpc.StatusCode | None = None
        self._live: asyncio.Future[str] | None = None

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """What came with the request, in order, repeated keys included."""
        return self._metadata

    def code(self) -> grpc.StatusCode | None:
        """The code that was set."""
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status code of the reply."""
        self._code = code
        self._context.set_code(code)

    def set_details(self, details: str) -> None:
        """The status message of the reply."""
        self._context.set_details(details)

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """The metadata after the reply; a second call replaces the first."""
        self._context.set_trailing_metadata(tuple(trailing_metadata))

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None without one."""
        left: float | None = self._context.time_remaining()
        return left

    def peer_address(self) -> str | None:
        """The address that the connection comes from, without its port; None if it has none."""
        kind, _, rest = str(self._context.peer()).partition(":")
        return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else None

    def note_live(self, subscription_id: str) -> None:
        """The call's subscription is live: what is stored from now on reaches it."""
        future = self.live
        if not future.done():
            future.set_result(subscription_id)

    @property
    def live(self) -> asyncio.Future[str]:
        """Done, with the subscription's id, once that is live."""
        if self._live is None:
            self._live = asyncio.get_running_loop().create_future()
        return self._live


class MethodHandlers(grpc.GenericRpcHandler):
    """The methods of services, by their full names, as a gRPC server looks them up."""

    def __init__(self, methods: object, services: Sequence[str], unread_seconds: float) -> None:
        """`methods`: the object that has a method of each name; `unread_seconds`: see `Bounds`."""
        self._handlers: dict[str, Handler] = {}
        for service in services:
            for method in descriptor_pool.Default().FindServiceByName(service).methods:
                self._handlers[f"/{service}/{method.name}"] = _handler(
                    getattr(methods, method.name), method, unread_seconds
                )

    def add(self, path: str, handler: Handler) -> None:
        """A method that is not the ingress's own."""
        self._handlers[path] = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call."""
        return self._handlers.get(handler_call_details.method)


def _handler(call: Any, method: MethodDescriptor, unread_seconds: float) -> Handler:
    request = message_factory.GetMessageClass(method.input_type)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_stream(call, request, unread_seconds))
    return grpc.unary_unary_rpc_method_handler(_unary(call, request))


def _unary(
    call: Callable[..., Awaitable[Message]], request_class: type[Message]
) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def handle(payload: bytes, grpc_context: Any) -> bytes:
        context = GrpcContext(grpc_context)
        try:
            request = request_class.FromString(payload)
            return (await call(request, context)).SerializeToString()
        except DecodeError:
            refuse(context, _malformed(request_class))
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            refuse(context, FAILED)
        return b""

    return handle


def _stream(
    call: Callable[..., AsyncGenerator[Message, None]], request_class: type[Message], unread_seconds: float
) -> Callable[[bytes, Any], Awaitable[None]]:
    async def handle(payload: bytes, grpc_context: Any) -> None:
        context = GrpcContext(grpc_context)
        try:
            request = request_class.FromString(payload)
            async with aclosing(call(request, context)) as messages:
                await _send(messages, context, grpc_context, unread_seconds)
        except DecodeError:
            refuse(context, _malformed(request_class))
        except StreamRefused:
            pass  # the status is set
        except Exception:
            if grpc_context.done():
                return  # the client has gone in the middle of a message
            logger.exception("a stream ended in an unforeseen error")
            refuse(context, FAILED)

    return handle


async def _send(
    messages: AsyncGenerator[Message, None], context: GrpcContext, grpc_context: Any, unread_seconds: float
) -> None:
    """Send them as they come; before them, once the subscription is live, its id."""
    coming = asyncio.ensure_future(anext(messages))
    try:
        awaited: list[asyncio.Future[Any]] = [coming, context.live]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if context.live.done():
            await grpc_context.send_initial_metadata(((SUBSCRIPTION_ID, header_text(context.live.result())),))
        while True:
            try:
                message = await coming
            except StopAsyncIteration:
                return
            try:
                await asyncio.wait_for(grpc_context.write(message.SerializeToString()), unread_seconds)
            except asyncio.TimeoutError:
                refuse(context, _unread(unread_seconds))
                return
            coming = asyncio.ensure_future(anext(messages))
    finally:
        if not coming.done():
            coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _malformed(request_class: type[Message]) -> Status:
    return Status(Code.INVALID_ARGUMENT, f"the request is not a valid {request_class.DESCRIPTOR.full_name}")


def _unread(seconds: float) -> Status:
    return Status(
        Code.RESOURCE_EXHAUSTED,
        f"a message was not read for {seconds:g} s; subscribe again from where you were",
    )
