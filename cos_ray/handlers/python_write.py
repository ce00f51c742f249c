"""
Calls a write handler written in Python, inside the process that serves the entity.

No network, no serialized call: the application's two functions get its own messages. A plain
function runs in a thread, so that it stalls nobody else however long it computes, and so that the
command's deadline holds. An async function runs in the event loop and must not block it; it saves
the way to a thread and back.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from cos_ray.domain.decisions import Decision, Persist, decide
from cos_ray.domain.errors import Code, ConfigurationError, HandlerFailed, Rejected, Status
from cos_ray.domain.ids import Revision
from cos_ray.domain.messages import NOTHING, CommandMeta, EntityState, Headers, Meta, Packed
from cos_ray.domain.texts import said_by
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_application import Application, Method, load
from cos_ray.handlers.python_types import Parameter, Unfit, packed_message
from cos_ray.handlers.threads import Threads

logger = logging.getLogger(__name__)

THREADS = 32
"""
The most threads of a process that run plain functions. One is started when none is free, so an
entity of its own process has one, and more only after functions that did not return in time.
"""

LOOK_AHEAD_WITHIN = 0.1
"""Of the time that a call has, the part in which the thread may go on to the next function."""

SWITCH_INTERVAL = 0.001
"""Seconds. Beside a thread that computes, other entities' slowest commands took 9 ms, not 47 (seen)."""

EVENT_OVERHEAD = 64
"""Bytes that an event counts for beside its own."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Ahead:
    """From where to look ahead, and until when, by the monotonic clock."""

    first: Meta
    state: Packed
    until: float


class PythonWriteHandler:
    """A write handler that is a Python object."""

    def __init__(
        self, application: Application, call_timeout: timedelta, message_limit: int, threads: int = THREADS
    ) -> None:
        self._application = application
        self._call_timeout = call_timeout.total_seconds()
        self._message_limit = message_limit
        self._threads = Threads(threads)

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """Which events the command leads to. Raises HandlerFailed."""
        method, at = self._application.handle_command, prior.meta
        meta = CommandMeta(at.entity_id, at.revision, at.date, at.headers, at.data, headers)

        def arguments() -> tuple[object, ...]:
            return _command(method.first, command), _state(method.state, prior.state), meta

        if first is None or method.is_async or self._application.handle_event.is_async:
            return await self._call(method, arguments, self._decision, timeout)
        ahead = _Ahead(first, prior.state, time.monotonic() + LOOK_AHEAD_WITHIN * self._limit(timeout))
        return await self._call(method, arguments, lambda returned: self._foreseen(returned, ahead), timeout)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to. Raises HandlerFailed, also for an answer without a state."""
        method = self._application.handle_event

        def arguments() -> tuple[object, ...]:
            return _event(method.first, event), _state(method.state, prior_state), meta

        return await self._call(method, arguments, self._resulting_state, timeout)

    async def _call(
        self,
        method: Method,
        arguments: Callable[[], tuple[object, ...]],
        read: Callable[[object], _Result],
        timeout: float,
    ) -> _Result:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Result | HandlerFailed]
        task: asyncio.Task[_Result | HandlerFailed] | None = None
        if method.is_async:
            # Not waited for itself: it may take no notice of being cancelled.
            answer = loop.create_future()
            task = loop.create_task(_awaited(method, arguments, read))
            task.add_done_callback(lambda task: _hand_on(answer, task, method))
        else:
            # Unpacking and packing are work as well: they are done in the thread.
            answer = self._threads.run(lambda: _called(method, arguments, read))
        timer = loop.call_later(self._limit(timeout), _run_out, answer, method)
        try:
            result = await answer
        finally:
            timer.cancel()
            if task is not None:
                task.cancel()
        if isinstance(result, HandlerFailed):
            raise result
        return result

    def _limit(self, timeout: float) -> float:
        return min(timeout, self._call_timeout)

    def _foreseen(self, returned: object, ahead: _Ahead) -> Decision:
        """The decision, with the states that its events lead to: in the same thread, a trip each is saved."""
        decision = self._decision(returned)
        if not isinstance(decision, Persist):
            return decision
        method, state, states = self._application.handle_event, ahead.state, list[Packed]()
        for number, event in enumerate(decision.events):
            if time.monotonic() > ahead.until:
                break
            meta = replace(ahead.first, revision=Revision(ahead.first.revision + number))
            try:
                returned = method.function(_event(method.first, event), _state(method.state, state), meta)
                state = self._resulting_state(returned)
            except BaseException:  # noqa: BLE001 - asked again by itself, and heard then
                break
            states.append(state)
        return replace(decision, states=tuple(states))

    def _decision(self, returned: object) -> Decision:
        if returned is None:
            return decide((), NOTHING)
        if isinstance(returned, Message | str | bytes) or not isinstance(returned, Iterable):
            raise TypeError(f"handle_command returned {type(returned).__name__}, no list of events")
        return decide(self._events(returned), NOTHING)

    def _events(self, returned: Iterable[object]) -> list[Packed]:
        """All of them, packed; a generator may have no end."""
        events, octets = list[Packed](), 0
        for event in returned:
            events.append(self._within_limit(packed_message(event)))
            octets += len(events[-1]) + EVENT_OVERHEAD
            if octets > self._message_limit:
                raise HandlerFailed(self._too_large())
        return events

    def _resulting_state(self, returned: object) -> Packed:
        if returned is None:
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, "event handler replied with empty state"))
        return self._within_limit(packed_message(returned))

    def _within_limit(self, packed: Packed) -> Packed:
        if len(packed) > self._message_limit:
            raise HandlerFailed(self._too_large())
        return packed

    def _too_large(self) -> Status:
        text = f"write handler's reply is larger than {self._message_limit} bytes"
        return Status(Code.RESOURCE_EXHAUSTED, text)


class UnloadableWriteHandler:
    """
    Stands for a handler that could not be loaded in this process; every call fails and says so.

    The service checks the class where it starts. Another node may still lack it, and an actor
    that fails to start would be started again and again.
    """

    def __init__(self, error: ConfigurationError) -> None:
        logger.error("write handler cannot be loaded", extra={"reason": str(error)})
        self._status = Status(Code.INTERNAL, "write handler cannot be loaded")

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """Raises HandlerFailed."""
        raise HandlerFailed(self._status)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Raises HandlerFailed."""
        raise HandlerFailed(self._status)


def python_write_handler(
    target: PythonEndpoint, call_timeout: timedelta
) -> PythonWriteHandler | UnloadableWriteHandler:
    """The handler of this class, made; raises nothing."""
    try:
        application = load(target)
    except ConfigurationError as error:
        return UnloadableWriteHandler(error)
    # Of this process: a thread that computes lets the event loop in so often (5 ms unless told
    # otherwise), and a command of another entity needs the loop several times.
    sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))
    return PythonWriteHandler(application, call_timeout, target.message_limit)


def _hand_on(
    answer: asyncio.Future[_Result | HandlerFailed],
    task: asyncio.Task[_Result | HandlerFailed],
    method: Method,
) -> None:
    if not answer.done():
        answer.set_result(_failed(method) if task.cancelled() else task.result())


def _run_out(answer: asyncio.Future[_Result | HandlerFailed], method: Method) -> None:
    if not answer.done():
        logger.warning("write handler did not return in time", extra={"method": method.name})
        text = "write handler did not answer in time"
        answer.set_result(HandlerFailed(Status(Code.DEADLINE_EXCEEDED, text)))


# An attempt never raises what the application raised: in a thread nobody would catch it, and
# SystemExit in a task would end the process.


def _called(
    method: Method, arguments: Callable[[], tuple[object, ...]], read: Callable[[object], _Result]
) -> _Result | HandlerFailed:
    try:
        return read(method.function(*arguments()))
    except BaseException as error:  # noqa: BLE001
        return _failure(method, error)


async def _awaited(
    method: Method, arguments: Callable[[], tuple[object, ...]], read: Callable[[object], _Result]
) -> _Result | HandlerFailed:
    try:
        return read(await method.function(*arguments()))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        return _failure(method, error)


def _failure(method: Method, error: BaseException) -> HandlerFailed:
    try:
        match error:
            case HandlerFailed(status=Status(code=code)) if _code(code):
                return error
            case Rejected():
                status = Status(_code(error.code), said_by(error.message), _details(error.details))
                return HandlerFailed(status)
            case _:
                pass
    except Exception as unusable:  # noqa: BLE001 - the application's own classes may raise anything
        error = unusable
    # With its traceback, and without the message towards the client: it may hold anything.
    logger.error("write handler failed", extra={"method": method.name}, exc_info=error)
    return _failed(method, type(error).__name__)


def _failed(method: Method, why: str = "CancelledError") -> HandlerFailed:
    return HandlerFailed(Status(Code.INTERNAL, f"write handler failed in {method.name}: {why}"))


def _code(code: object) -> Code:
    """What an error of the application has as its code. Raises ValueError for what refuses nothing."""
    found = Code(code)  # type: ignore[arg-type]
    if found is Code.OK:
        raise ValueError("a command is not refused with Code.OK")
    return found


def _details(details: object) -> bytes | None:
    if details is None or isinstance(details, bytes):
        return None if details is None else bytes(details)
    if isinstance(details, Message):
        return details.SerializeToString()
    raise TypeError(f"details of a rejection are {type(details).__name__}, no google.rpc.Status")


def _command(parameter: Parameter, packed: Packed) -> Message:
    try:
        return parameter.value(packed)
    except Unfit as error:
        raise HandlerFailed(Status(Code.INVALID_ARGUMENT, f"invalid command: {error}")) from error


def _event(parameter: Parameter, packed: Packed) -> Message:
    try:
        return parameter.value(packed)
    except Unfit as error:
        raise HandlerFailed(Status(Code.INTERNAL, f"handle_event does not take {error}")) from error


def _state(parameter: Parameter, packed: Packed) -> Message | None:
    try:
        return parameter.state(packed)
    except Unfit as error:
        raise HandlerFailed(Status(Code.INTERNAL, f"write handler does not take state {error}")) from error
