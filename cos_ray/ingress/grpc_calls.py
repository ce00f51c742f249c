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
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.admission import OPEN_TO_ALL
from cos_ray.ingress.grpc_log import has_garbled_metadata
from cos_ray.ingress.headers import header_text
from cos_ray.ingress.refusals import Refusals
from cos_ray.ingress.status import FAILED, ReplyContext, StreamRefused, refuse
from cos_ray.ports import Unmeasured
from cos_ray.system.clock import SystemClock

logger = logging.getLogger(__name__)

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_Refuses: TypeAlias = Callable[[ReplyContext], Status | None]
"""Why nothing is taken from a caller; None: it is."""

SUBSCRIPTION_ID = "x-cos-subscription-id"
"""The initial metadata that says that a subscription is live."""


class GrpcContext:
    """The `ReplyContext` of a call: gRPC's own context, and what is noted on it."""

    def __init__(self, context: Any, with_metadata: bool = True) -> None:
        self._context = context
        metadata = context.invocation_metadata() if with_metadata else None
        self._metadata: list[tuple[str, str | bytes]] = list(metadata or ())
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

    def __init__(
        self,
        methods: object,
        services: Sequence[str],
        unread_seconds: float,
        body_seconds: float = 60.0,
        refusals: Refusals | None = None,
    ) -> None:
        """
        `methods`: the object that has a method of each name, and says whom it refuses (`refuses_caller`).

        The seconds: see `ListenerBounds`.
        """
        self._handlers: dict[str, Handler] = {}
        self._refusals = refusals or Refusals(Unmeasured(), SystemClock())
        calls = _Calls(unread_seconds, body_seconds, self._refusals)
        self._garbled: Handler = grpc.stream_stream_rpc_method_handler(calls.refuse_garbled)
        for service in services:
            refuses = _nobody if service == OPEN_TO_ALL else methods.refuses_caller  # type: ignore[attr-defined]
            for method in descriptor_pool.Default().FindServiceByName(service).methods:
                handler = calls.handler(getattr(methods, method.name), method, refuses)
                self._handlers[f"/{service}/{method.name}"] = handler

    def add(self, path: str, handler: Handler) -> None:
        """A method that is not the ingress's own."""
        self._handlers[path] = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call."""
        if has_garbled_metadata():
            return self._garbled
        return self._handlers.get(handler_call_details.method)


class _Calls:
    """
    What every call goes through.

    Its message is read here, also where there is but one: gRPC would wait for it for ever, never answer a
    call that ends without one, and not say which it did not take.
    """

    def __init__(self, unread_seconds: float, body_seconds: float, refusals: Refusals) -> None:
        self._unread_seconds = unread_seconds
        self._body_seconds = body_seconds
        self._refusals = refusals

    def handler(self, call: Any, method: MethodDescriptor, refuses: _Refuses) -> Handler:
        """Of a method of ours, which `call` answers, for callers whom `refuses` does not refuse."""
        request = message_factory.GetMessageClass(method.input_type)
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(call, request, refuses))
        return grpc.stream_unary_rpc_method_handler(self._unary(call, request, refuses))

    async def refuse_garbled(self, requests: object, grpc_context: Any) -> None:
        """Answers a call whose metadata are no text."""
        context = GrpcContext(grpc_context, with_metadata=False)
        self._note(context, RefusalCause.ENCODING)
        refuse(context, _GARBLED)

    def _note(self, context: GrpcContext, cause: RefusalCause) -> None:
        self._refusals.add(PublicPort.GRPC, cause, context.peer_address())

    def _unary(
        self, call: Callable[..., Awaitable[Message]], request_class: type[Message], refuses: _Refuses
    ) -> Callable[[object, Any], Awaitable[bytes]]:
        async def handle(requests: object, grpc_context: Any) -> bytes:
            context = GrpcContext(grpc_context)
            try:
                payload = await self._received(grpc_context, context, refuses)
                if payload is None:
                    return b""
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
        self,
        call: Callable[..., AsyncGenerator[Message, None]],
        request_class: type[Message],
        refuses: _Refuses,
    ) -> Callable[[object, Any], Awaitable[None]]:
        async def handle(requests: object, grpc_context: Any) -> None:
            context = GrpcContext(grpc_context)
            try:
                payload = await self._received(grpc_context, context, refuses)
                if payload is None:
                    return
                request = request_class.FromString(payload)
                async with aclosing(call(request, context)) as messages:
                    if not await _send(messages, context, grpc_context, self._unread_seconds):
                        self._note(context, RefusalCause.UNREAD)
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

    async def _received(self, grpc_context: Any, context: GrpcContext, refuses: _Refuses) -> bytes | None:
        """The call's message; None where it ends without, and its status is set."""
        # Asked first: a message that comes slowly takes memory, which is for callers with a token.
        status = refuses(context)
        if status is not None:
            refuse(context, status)
            return None
        task, is_late = asyncio.current_task(), False
        assert task is not None

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            task.cancel()

        # Not by `wait_for`, which makes a task of it, for every call.
        timer = asyncio.get_running_loop().call_later(self._body_seconds, give_up)
        try:
            payload = await grpc_context.read()
        except asyncio.CancelledError:
            if not is_late:
                # Given up by the client, or by gRPC: it was too large, or compressed.
                self._note(context, RefusalCause.NO_MESSAGE)
                raise
            self._note(context, RefusalCause.BODY_TIME)
            refuse(context, _late(self._body_seconds))
            return None
        finally:
            timer.cancel()
        if payload is grpc.aio.EOF:
            self._note(context, RefusalCause.NO_MESSAGE)
            refuse(context, _NO_MESSAGE)
            return None
        message: bytes = payload
        return message


def _nobody(context: ReplyContext) -> None:
    """Refuses no caller."""


async def _send(
    messages: AsyncGenerator[Message, None], context: GrpcContext, grpc_context: Any, unread_seconds: float
) -> bool:
    """Send them as they come; before them, once the subscription is live, its id. Whether they were read."""
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
                return True
            try:
                await asyncio.wait_for(grpc_context.write(message.SerializeToString()), unread_seconds)
            except asyncio.TimeoutError:
                refuse(context, _unread(unread_seconds))
                return False
            coming = asyncio.ensure_future(anext(messages))
    finally:
        if not coming.done():
            coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


_GARBLED = Status(Code.INVALID_ARGUMENT, "the metadata are no UTF-8; bytes go into keys that end in -bin")
_NO_MESSAGE = Status(Code.INVALID_ARGUMENT, "the call has no message")


def _late(seconds: float) -> Status:
    return Status(Code.DEADLINE_EXCEEDED, f"the message did not come within {seconds:g} s")


def _malformed(request_class: type[Message]) -> Status:
    return Status(Code.INVALID_ARGUMENT, f"the request is not a valid {request_class.DESCRIPTOR.full_name}")


def _unread(seconds: float) -> Status:
    return Status(
        Code.RESOURCE_EXHAUSTED,
        f"a message was not read for {seconds:g} s; subscribe again from where you were",
    )
