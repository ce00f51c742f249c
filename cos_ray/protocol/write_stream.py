"""
The handler's end of the stream: lets a write handler in Python take many calls in one message.

One line beside the one that adds the handler to its server is all it takes:

    stream = add_write_stream_to_server(handler, server)

and, before the server stops, `await stream.close()`.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as Any_

from cos_ray.domain.texts import said_by
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import Header
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleEventRequest
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import WriteSideHandlerServiceServicer
from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2 import (
    WriteSideAnswer,
    WriteSideAnswers,
    WriteSideCall,
    WriteSideCalls,
)
from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2_grpc import (
    WriteSideStreamServiceServicer,
    add_WriteSideStreamServiceServicer_to_server,
)
from cos_ray.protocol.send_buffer import MOST_OCTETS, SendBuffer

LOOK_AHEAD_WITHIN = 0.1
"""Of the time that a call has, the part in which the handler may go on to the next function."""

_DETAILS = "grpc-status-details-bin"
_NOTHING = Any_()
_UNKNOWN: int = grpc.StatusCode.UNKNOWN.value[0]


class WriteStreams(WriteSideStreamServiceServicer):
    """Serves streams of calls to one handler; `close` ends them."""

    def __init__(self, handler: WriteSideHandlerServiceServicer) -> None:
        """Raises TypeError for a handler whose methods are not async: it would hold up all calls."""
        for method in (handler.HandleCommand, handler.HandleEvent):
            if not inspect.iscoroutinefunction(method):
                raise TypeError(f"{method.__qualname__} must be an async method to be called in streams")
        self._handler = handler
        self._streams: set[_Stream] = set()
        self._closed = False

    async def Handle(self, _requests: Any, context: Any) -> None:
        """Answer calls until the other side has sent its last, or until closed."""
        if self._closed:
            return
        stream = _Stream(self._handler, context)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    async def close(self, grace: float = 5.0) -> None:
        """Answer what was taken, for `grace` seconds at most, take no more, and end all streams."""
        self._closed = True
        for stream in self._streams:
            stream.end()
        ends = [asyncio.ensure_future(stream.ended.wait()) for stream in self._streams]
        if ends:
            _, late = await asyncio.wait(ends, timeout=grace)
            for end in late:
                end.cancel()


def add_write_stream_to_server(
    handler: WriteSideHandlerServiceServicer, server: grpc.aio.Server
) -> WriteStreams:
    """
    Let the server take calls to this handler in streams as well.

    It is the same object that is added to the server for unary calls. Raises TypeError unless its
    methods are async.
    """
    streams = WriteStreams(handler)
    add_WriteSideStreamServiceServicer_to_server(streams, server)
    return streams


class CallContext:
    """What a handler's method is given in a stream: the part of grpc.aio.ServicerContext that is of use."""

    def __init__(self, call: WriteSideCall, peer: str) -> None:
        self._call = call
        self._peer = peer
        self._until = time.monotonic() + call.time_left / 1000
        self._code: grpc.StatusCode | None = None
        self._message = ""
        self._trailing: tuple[tuple[str, str | bytes], ...] = ()

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call with this status."""
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, "abort() called with StatusCode.OK"
        self._code, self._message = code, details
        self._trailing = tuple(trailing_metadata) or self._trailing
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with this status, its details included."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_code(self, code: grpc.StatusCode) -> None:
        """End the call with this code once the method returns."""
        self._code = code

    def set_details(self, details: str) -> None:
        """What to say with the code."""
        self._message = details

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Of this, only the status's details reach the service."""
        self._trailing = tuple(trailing_metadata)

    def code(self) -> grpc.StatusCode | None:
        """The code that was set."""
        return self._code

    def details(self) -> str:
        """The words that were set."""
        return self._message

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The metadata that was set."""
        return self._trailing

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What came with the call."""
        return tuple((header.key, _value(header)) for header in self._call.headers)

    def time_remaining(self) -> float:
        """Seconds for which the answer is still waited for."""
        return max(0.0, self._until - time.monotonic())

    def peer(self) -> str:
        """Who calls, as gRPC writes it."""
        return self._peer

    def failure(self) -> WriteSideAnswer.Failure | None:
        """How the call ends, if not well."""
        # The application may have set anything.
        code: object = self._code
        said: object = self._message
        if code is None or code is grpc.StatusCode.OK:
            return None
        number = code.value[0] if isinstance(code, grpc.StatusCode) else _UNKNOWN
        details = next((value for key, value in self._trailing if key == _DETAILS), b"")
        octets = details if isinstance(details, bytes) else b""
        message = "" if said is None else said_by(said)
        return WriteSideAnswer.Failure(code=number, message=message, details=octets)


class _Stream:
    """One stream's calls under way, and the answers that are to be sent."""

    def __init__(self, handler: WriteSideHandlerServiceServicer, context: Any) -> None:
        self._handler = handler
        self._context = context
        self._peer = context.peer()
        self._under_way: dict[int, asyncio.Task[WriteSideAnswer]] = {}
        self._withdrawn: set[int] = set()
        self._unsent: SendBuffer[WriteSideAnswer] = SendBuffer()
        self._something = asyncio.Event()
        self._no_more_calls = False
        self._receiving: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def run(self) -> None:
        self._receiving = asyncio.ensure_future(self._receive())
        try:
            await self._context.write(WriteSideAnswers())
            await self._send()
        finally:
            self._receiving.cancel()
            for task in list(self._under_way.values()):
                task.cancel()
            self.ended.set()

    def end(self) -> None:
        """Take no more calls."""
        # Said here too: a task that is cancelled before its first step says nothing.
        self._no_more_calls = True
        self._something.set()
        if self._receiving is not None:
            self._receiving.cancel()

    async def _receive(self) -> None:
        try:
            while (calls := await self._context.read()) is not grpc.aio.EOF:
                self._take(calls)
        finally:
            self._no_more_calls = True
            self._something.set()

    def _take(self, calls: WriteSideCalls) -> None:
        for call in calls.calls:
            task = asyncio.ensure_future(self._answer(call))
            self._under_way[call.id] = task
            # However it ends: a task may be withdrawn before its first step.
            task.add_done_callback(partial(self._done, call.id))
        for id_ in calls.withdrawn:
            if id_ in self._under_way:
                self._withdrawn.add(id_)
                self._under_way[id_].cancel()

    async def _answer(self, call: WriteSideCall) -> WriteSideAnswer:
        context: Any = CallContext(call, self._peer)
        answer = WriteSideAnswer(id=call.id)
        try:
            if call.WhichOneof("request") == "command":
                looks_ahead = call.HasField("first_event_meta")
                # The handler may do with its request what it likes.
                prior = Any_()
                if looks_ahead:
                    prior.CopyFrom(call.command.prior_state)
                command = await self._handler.HandleCommand(call.command, context)
                answer.command.CopyFrom(command)
                if looks_ahead and context.failure() is None:
                    await self._look_ahead(prior, call, answer, context)
            else:
                event = await self._handler.HandleEvent(call.event, context)
                answer.event.CopyFrom(event)
        except grpc.aio.AbortError:
            pass
        except Exception as error:  # noqa: BLE001
            # As a unary call ends when its method raises.
            context.set_code(grpc.StatusCode.UNKNOWN)
            context.set_details(f"Unexpected {type(error)}: {said_by(error)}")
        if (failure := context.failure()) is not None:
            answer.failure.CopyFrom(failure)
        return answer

    async def _look_ahead(
        self, state: Any_, call: WriteSideCall, answer: WriteSideAnswer, context: CallContext
    ) -> None:
        """Add the states that the events lead to; one that fails is asked for again, and heard then."""
        meta = call.first_event_meta
        hurry = call.time_left / 1000 * (1 - LOOK_AHEAD_WITHIN)
        octets = 0
        for event in list(answer.command.events) or [answer.command.event]:
            if event == _NOTHING or context.time_remaining() < hurry:
                return
            request = HandleEventRequest(event=event, prior_state=state, event_meta=meta)
            left = int(context.time_remaining() * 1000)
            of_event: Any = CallContext(WriteSideCall(time_left=left), self._peer)
            try:
                reply = await self._handler.HandleEvent(request, of_event)
                octets += reply.ByteSize()
                if (
                    of_event.failure() is not None
                    or not reply.HasField("resulting_state")
                    or octets > MOST_OCTETS
                ):
                    return
                answer.states.append(reply)
            except Exception:  # noqa: BLE001
                return
            state = answer.states[-1].resulting_state
            meta.revision_number += 1

    def _done(self, id_: int, task: asyncio.Task[WriteSideAnswer]) -> None:
        del self._under_way[id_]
        if id_ in self._withdrawn:
            # Nobody waits for it.
            self._withdrawn.discard(id_)
        elif task.cancelled() or task.exception() is not None:
            # By the handler itself, or by something unforeseen: whoever waits must not wait in vain.
            why = "CancelledError" if task.cancelled() else said_by(task.exception())
            failure = WriteSideAnswer.Failure(code=_UNKNOWN, message=f"Unexpected {why}")
            self._unsent.add(id_, WriteSideAnswer(id=id_, failure=failure))
        else:
            self._unsent.add(id_, task.result())
        self._something.set()

    async def _send(self) -> None:
        """Until there will be nothing more to send."""
        while self._unsent or self._under_way or not self._no_more_calls:
            await self._something.wait()
            self._something.clear()
            while self._unsent:
                await self._context.write(WriteSideAnswers(answers=self._unsent.take()))


def _value(header: Header) -> str | bytes:
    return header.bytes_value if header.WhichOneof("value") == "bytes_value" else header.string_value
