"""
The stream to a write handler: many calls in one message, for handlers that serve it.

A unary call costs each side its headers, its frames and a wake-up or two; a message of sixty-four
calls costs that once. The stream makes no failures of its own: what it cannot carry, or leaves
without an answer, is for the caller to ask in a unary call.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from typing import Any as Untyped

import grpc
import grpc.aio

from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2 import WriteSideAnswer, WriteSideAnswers, WriteSideCall
from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2 import WriteSideCalls as Calls
from cos_ray.protocol.send_buffer import MOST_OCTETS, SendBuffer

logger = logging.getLogger(__name__)

METHOD = "/cos_ray.v1.WriteSideStreamService/Handle"

AGE = 60.0
"""
Seconds after which a stream gives way to a new one, perhaps to another of the handler's processes.

On average: all services that started at once are not to open their streams at once for ever.
"""

PAUSE = 1.0
"""Seconds before a stream that ended is opened again."""

PAUSE_WHERE_UNKNOWN = 600.0
"""Seconds before a handler that serves no stream is asked for one again."""

LAST_WORD = 1.0
"""Seconds in which a handler has to end an old stream after its last answer; then it is cut."""


class WriteStream:
    """The stream of one channel, opened in the background when it is first wanted."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open: Untyped = channel.stream_stream(METHOD)
        self._current: OpenStream | None = None
        self._not_before = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self) -> OpenStream | None:
        """The stream, if it takes calls; if there is none, one is on its way hereafter."""
        current = self._current
        if current is None or current.is_old:
            self._renew()
            return None
        return current if current.is_ready else None

    async def close(self) -> None:
        """Cut the stream, and those that were about to end."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _renew(self) -> None:
        if self._current is not None:
            self._current.end()
            self._current = None
        elif time.monotonic() < self._not_before:
            return
        opened = self._current = OpenStream(self._open())
        task = asyncio.ensure_future(self._run(opened))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, opened: OpenStream) -> None:
        """Keep the stream until it ends, and note when the next may be opened."""
        pause = PAUSE
        try:
            await opened.run()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                pause = PAUSE_WHERE_UNKNOWN
            else:
                logger.info("stream to the write handler broke", extra={"reason": error.details()})
        except Exception:
            logger.warning("stream to the write handler broke", exc_info=True)
        finally:
            if self._current is opened:
                self._current = None
                self._not_before = time.monotonic() + pause


class OpenStream:
    """One stream, from its opening to its end."""

    def __init__(self, call: Untyped) -> None:
        self._call = call
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[WriteSideAnswer | None]] = {}
        self._unsent: SendBuffer[WriteSideCall] = SendBuffer()
        self._withdrawn: list[int] = []
        self._something = asyncio.Event()
        self._ends = False
        self._heard = time.monotonic()
        self._old_at = self._heard + AGE * random.uniform(0.5, 1.5)
        self.is_ready = False
        """Whether the handler has said that it serves streams."""

    @property
    def is_old(self) -> bool:
        """Whether another is to take its place."""
        return time.monotonic() > self._old_at

    async def ask(self, call: WriteSideCall, timeout: float) -> WriteSideAnswer | None:
        """
        The answer to the call; None when it has to be asked in a unary call.

        Raises TimeoutError when none came in time, in seconds.
        """
        octets = call.ByteSize()
        if octets > MOST_OCTETS:
            return None
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        call.id = id_ = next(self._ids)
        call.time_left = max(1, min(int(timeout * 1000), 0xFFFFFFFF))
        answer: asyncio.Future[WriteSideAnswer | None] = loop.create_future()
        self._waiting[id_] = answer
        self._unsent.add(id_, call, octets)
        self._something.set()
        timer = loop.call_later(timeout, _run_out, answer)
        try:
            return await answer
        except asyncio.TimeoutError:
            # Not a word all the while: perhaps the connection is gone, and nobody has said so.
            if self._heard < begun:
                self._call.cancel()
            raise
        finally:
            timer.cancel()
            if self._waiting.pop(id_, None) is not None and not self._unsent.drop(id_):
                self._withdrawn.append(id_)
                self._something.set()
            if self._ends and not self._waiting:
                self._something.set()

    def end(self) -> None:
        """Take no more calls; the last answers are still waited for."""
        self._ends = True
        self._something.set()

    async def run(self) -> None:
        """Send and receive until the stream ends. Raises what ended it, if not the handler's OK."""
        sending = asyncio.ensure_future(self._send())
        try:
            await self._receive()
        finally:
            self.is_ready = False
            sending.cancel()
            self._call.cancel()
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_result(None)
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending

    async def _send(self) -> None:
        while not self._ends or self._unsent:
            await self._something.wait()
            self._something.clear()
            while self._unsent or self._withdrawn:
                message = Calls(calls=self._unsent.take(), withdrawn=self._withdrawn)
                self._withdrawn.clear()
                await self._call.write(message.SerializeToString())
        await self._call.done_writing()
        # Each of them is answered, or runs out of its time.
        while self._waiting:
            await self._something.wait()
            self._something.clear()
        await asyncio.sleep(LAST_WORD)
        self._call.cancel()

    async def _receive(self) -> None:
        while (octets := await self._call.read()) is not grpc.aio.EOF:
            self._heard = time.monotonic()
            self.is_ready = True
            for reply in WriteSideAnswers.FromString(octets).answers:
                answer = self._waiting.pop(reply.id, None)
                if answer is not None and not answer.done():
                    answer.set_result(reply)


def _run_out(answer: asyncio.Future[WriteSideAnswer | None]) -> None:
    if not answer.done():
        answer.set_exception(asyncio.TimeoutError())
