"""
Calls a read handler written in Python, inside the read side's process.

`handle` gets one event, `handle_many`, where there is one, as many as are due. Returning confirms
them, but for False; raising does not. A plain method runs in a thread, an async one in the event
loop, which it must not block. One call that does not return in time is given up, and runs on where
it cannot be cancelled: the event comes again then, so it may be handled twice at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from cos_ray.domain.errors import Code, ConfigurationError, DeliveryFailed
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import Delivered, DeliveryMeta, EventEnvelope
from cos_ray.domain.texts import said_by
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_application import Method, Reader, load_reader
from cos_ray.handlers.python_types import Unfit
from cos_ray.handlers.threads import Threads

logger = logging.getLogger(__name__)

BATCH = 500
"""The most events that `handle_many` is given."""

THREADS = 32
"""The most threads of plain methods; more than one only after some that did not return in time."""


class PythonReadHandler:
    """A read handler that is a Python object."""

    def __init__(self, reader: Reader, timeout: timedelta) -> None:
        self._reader = reader
        self._timeout = timeout.total_seconds()
        self._threads = Threads(THREADS, "read-handler")
        self._cut_short: dict[asyncio.Future[str | None], float] = {}
        """Calls that go on though nobody waits for them, and by when they should have returned."""

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Deliver one event; raises DeliveryFailed unless the handler confirms it in time."""

        def arguments() -> tuple[object, ...]:
            delivered = self._delivered(read_side, shard, envelope)
            return delivered.event, delivered.state, delivered.meta

        await self._call(self._reader.handle, arguments)

    async def close(self) -> None:
        """There is nothing to close."""

    def _delivered(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> Delivered:
        method, at = self._reader.handle, envelope.meta
        meta = DeliveryMeta(
            at.entity_id, at.revision, at.date, at.headers, at.data, read_side=read_side, shard=shard
        )
        return Delivered(
            method.first.value(envelope.event), method.state.state(envelope.resulting_state), meta
        )

    async def _call(self, method: Method, arguments: Callable[[], tuple[object, ...]]) -> None:
        await self._cut_short_ended()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        answer: asyncio.Future[str | None]
        begun: list[bool] = []
        if method.is_async:
            answer = asyncio.ensure_future(_awaited(method, arguments))
        else:
            # Unpacking is work as well: it is done in the thread.
            answer = self._threads.run(lambda: _called(method, arguments, begun))
        try:
            # Not wait_for: it waits for a function that takes no notice of being cancelled.
            done, _ = await asyncio.wait((answer,), timeout=self._timeout)
        except asyncio.CancelledError:
            if begun:
                self._cut_short[answer] = until
            else:
                answer.cancel()
            raise
        if not done:
            answer.cancel()
            text = f"{method.name} did not return within {self._timeout:g} s"
            raise DeliveryFailed(text, Code.DEADLINE_EXCEEDED)
        reason = "CancelledError" if answer.cancelled() else answer.result()
        if reason is not None:
            raise DeliveryFailed(reason)

    async def _cut_short_ended(self) -> None:
        """
        Return when no call goes on whose delivery was cut short, or when its time is over.

        A function in a thread cannot be stopped, and its event must not come again beside it, or after
        later ones.
        """
        while self._cut_short:
            answer, until = next(iter(self._cut_short.items()))
            left = until - asyncio.get_running_loop().time()
            await asyncio.wait((answer,), timeout=max(0.0, left))
            self._cut_short.pop(answer, None)


class PythonBatchReadHandler(PythonReadHandler):
    """One that takes many events in a call."""

    batch = BATCH

    def __init__(self, reader: Reader, many: Method, timeout: timedelta) -> None:
        super().__init__(reader, timeout)
        self._many = many

    async def handle_many(self, read_side: ReadSideId, events: Sequence[tuple[Shard, EventEnvelope]]) -> None:
        """Deliver all of them; raises DeliveryFailed unless all are confirmed in time."""

        def arguments() -> tuple[object, ...]:
            return ([self._delivered(read_side, shard, envelope) for shard, envelope in events],)

        await self._call(self._many, arguments)


class UnloadableReadHandler:
    """Stands for a handler that could not be loaded in this process; every delivery fails and says so."""

    def __init__(self, error: ConfigurationError) -> None:
        logger.error("read handler cannot be loaded", extra={"reason": str(error)})
        self._reason = f"read handler cannot be loaded: {error}"

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Raises DeliveryFailed."""
        raise DeliveryFailed(self._reason)

    async def close(self) -> None:
        """There is nothing to close."""


def python_read_handler(
    target: PythonEndpoint, timeout: timedelta
) -> PythonReadHandler | UnloadableReadHandler:
    """The handler of this class, made; raises nothing."""
    try:
        reader = load_reader(target)
    except ConfigurationError as error:
        return UnloadableReadHandler(error)
    if reader.handle_many is None:
        return PythonReadHandler(reader, timeout)
    return PythonBatchReadHandler(reader, reader.handle_many, timeout)


# An attempt never raises what the application raised: in a thread nobody would catch it, and
# SystemExit in a task would end the process.


def _called(method: Method, arguments: Callable[[], tuple[object, ...]], begun: list[bool]) -> str | None:
    begun.append(True)
    try:
        return _reason(method, method.function(*arguments()))
    except BaseException as error:  # noqa: BLE001
        return _fault(method, error)


async def _awaited(method: Method, arguments: Callable[[], tuple[object, ...]]) -> str | None:
    try:
        return _reason(method, await method.function(*arguments()))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        return _fault(method, error)


def _reason(method: Method, returned: object) -> str | None:
    """Why that is no confirmation; None when it is one."""
    match returned:
        case None | True:
            return None
        case False:
            return f"{method.name} returned False"
        case _:
            return f"{method.name} returned {type(returned).__name__}; allowed: None, True or False"


def _fault(method: Method, error: BaseException) -> str:
    if isinstance(error, Unfit):
        return f"{method.name} does not take {error}"
    logger.info("read handler raised an error", extra={"method": method.name}, exc_info=error)
    return f"{method.name} raised {type(error).__name__}: {said_by(error)}"
