"""
Commands to another process and replies from it, many in one call.

A call costs the same whatever it carries. So the asking side keeps at most two calls out for each
process it asks: one rests there until there are replies, the other brings what has come up
meanwhile and relieves the first. A reply goes with whichever call is there when it is ready, so no
command waits for a slower one that it travelled with. A command that is asked for once more, since it
seemed lost, is another request: what the earlier one led to is not its reply.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from cos_ray.domain.errors import EntityLost, EntityNotReached, EntitySilent
from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Accepted, Command, TryElsewhere
from cos_ray.transport.host_reply import HostReply
from cos_ray.transport.silence import Silence

LONGEST_LINGER = 0.01
"""Seconds that commands and replies wait at most for company."""

LINGER_SHARE = 0.2
"""Of what a command takes, as things are, the part that may be spent on waiting for company."""


class Linger:
    """How long to wait for company: a small part of what commands take lately, none when they are quick."""

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual = 0.0

    def note(self, taken: float) -> None:
        """A command took so many seconds."""
        self._usual += (min(taken, 1.0) - self._usual) / 16

    @property
    def seconds(self) -> float:
        """The time to wait."""
        return min(LONGEST_LINGER, LINGER_SHARE * self._usual)


logger = logging.getLogger(__name__)

CALLS_OUT = 2
"""How many calls one side keeps out at once."""

REST = 1.0
"""Seconds after which a call returns even without replies: a sign of life."""

SILENCE = 2.5
"""Seconds without a call returning after which the other side is said to be silent, again and again."""

GRACE = 0.25
"""Seconds that the other side's own word on a late command may take to get here."""

NOT_WORTH_SAYING = 0.01
"""Seconds by which a command's budget may be less than what the other side is told."""

FETCHED_WITHIN = 3.0
"""Seconds after which a reply that no one has fetched is no one's: who asked has given up this side."""

ANSWER_OCTETS = 4 * 1024 * 1024
"""Bytes of states with which an answer to a call ends."""


RequestId: TypeAlias = int
"""Tells an request from all others of the process that asks, those for the same command included."""

Replies: TypeAlias = Sequence[tuple[RequestId, HostReply]]

_request_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call brings."""

    requests: Sequence[tuple[RequestId, Command]]
    withdrawn: Sequence[tuple[EntityId, CommandId]] = ()
    """Commands of earlier batches that no one waits for any more."""


@dataclass(frozen=True, slots=True)
class BatchReply:
    """What a call returns with."""

    server: str
    """Who answers: another server knows nothing of the commands that this one was given."""
    replies: Replies


Call: TypeAlias = Callable[[Batch], Awaitable[BatchReply]]
"""Takes a batch to the other side and returns what replies are ready. Raises EntityLost."""

Process: TypeAlias = Callable[[Command], Awaitable[HostReply]]
"""Runs a command."""


class BatchingClient:
    """The asking side: sends commands to one process and hands out its replies."""

    def __init__(self, call: Call, tell_silence: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._call = call
        self._tell_silence = tell_silence
        self._waiting: dict[RequestId, asyncio.Future[HostReply]] = {}
        self._server = ""
        # What the server has been given, in which batch.
        self._sent_in: dict[RequestId, int] = {}
        self._batches = 0
        self._under_way: set[int] = set()
        self._outgoing: list[tuple[RequestId, Command, float]] = []
        self._withdrawn: list[tuple[EntityId, CommandId]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._is_sending = False
        self._linger = Linger()

    @property
    def waiting(self) -> int:
        """How many commands have not been answered."""
        return len(self._waiting)

    async def ask(self, command: Command) -> HostReply:
        """Hand the command over and wait for the reply. Raises EntityLost and EntitySilent."""
        loop, request_id = self._loop, next(_request_ids)
        answer: asyncio.Future[HostReply] = loop.create_future()
        begun = loop.time()
        self._waiting[request_id] = answer
        self._outgoing.append((request_id, command, begun + command.budget))
        self._send_soon()
        timer = loop.call_later(command.budget + GRACE, self._give_up, command, answer)
        try:
            reply = await answer
        except asyncio.CancelledError:
            self._withdrawn.append((command.entity_id, command.command_id))
            self._send_soon()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(request_id, None)
            self._sent_in.pop(request_id, None)
        self._linger.note(loop.time() - begun)
        return reply

    def _give_up(self, command: Command, answer: asyncio.Future[HostReply]) -> None:
        if not answer.done():
            answer.set_exception(EntitySilent(command.entity_id))
            self._withdrawn.append((command.entity_id, command.command_id))
            self._send_soon()

    def abandon(self, reason: str) -> None:
        """The other side is given up: all that wait for it are told, by EntityLost or EntityNotReached."""
        self._outgoing.clear()
        self._lose(list(self._waiting), reason)

    def _not_reached(self, batch: Batch, reason: str) -> None:
        """The batch has not left; what earlier ones brought may yet be answered, if a call is still out."""
        for request_id, _ in batch.requests:
            self._sent_in.pop(request_id, None)
        is_last = len(self._calls) == 1
        self._lose([each for each in self._waiting if is_last or each not in self._sent_in], reason)
        self._outgoing.clear()

    def _lose(self, request_ids: Iterable[RequestId], reason: str) -> None:
        for request_id in request_ids:
            answer = self._waiting.pop(request_id)
            was_sent = self._sent_in.pop(request_id, None) is not None
            if not answer.done():
                answer.set_exception(EntityLost(reason) if was_sent else EntityNotReached(reason))

    def _send_soon(self) -> None:
        if self._is_sending or len(self._calls) >= CALLS_OUT:
            return
        self._is_sending = True
        # Alone it goes at once, with whatever else comes up in this turn of the loop.
        self._loop.call_later(self._linger.seconds if self._calls else 0, self._send)

    def _send(self) -> None:
        self._is_sending = False
        now = self._loop.time()
        # What was withdrawn meanwhile never leaves.
        requests = [
            (request_id, _with_left(command, until - now))
            for request_id, command, until in self._outgoing
            if request_id in self._waiting and until > now
        ]
        batch = Batch(requests, self._withdrawn)
        self._outgoing, self._withdrawn = [], []
        self._batches += 1
        self._under_way.add(self._batches)
        self._sent_in.update((request_id, self._batches) for request_id, _ in requests)
        call = self._loop.create_task(self._exchange(batch, self._batches))
        self._calls.add(call)
        call.add_done_callback(self._returned)

    async def _exchange(self, batch: Batch, number: int) -> None:
        silence = Silence(self._loop, SILENCE, self._tell_silence)
        try:
            response = await self._call(batch)
        except EntityNotReached as error:
            self._not_reached(batch, str(error))
            return
        except EntityLost as error:
            self.abandon(str(error))
            return
        except Exception as error:
            # Not foreseen; whatever it is, those who wait must not wait for ever.
            self.abandon(repr(error))
            raise
        finally:
            self._under_way.discard(number)
            silence.end()
        if response.server != self._server:
            # The process was lost between two calls, and has come up again. Calls still out may return in
            # any order: who has got their batches, they will tell.
            self._server = response.server
            earlier = [
                request_id
                for request_id, sent_in in self._sent_in.items()
                if sent_in < number and sent_in not in self._under_way
            ]
            self._lose(earlier, "the process was started anew")
        for request_id, reply in response.replies:
            answer = self._waiting.get(request_id)
            if answer is not None and not answer.done():
                answer.set_result(reply)

    def _returned(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            logger.error("an exchange ended in an unforeseen error", exc_info=error)
        # One call stays out as long as anything is to be heard.
        if self._outgoing or self._withdrawn or (self._waiting and not self._calls):
            self._send_soon()


def _with_left(command: Command, left: float) -> Command:
    return command if command.budget - left < NOT_WORTH_SAYING else replace(command, budget=left)


class BatchingServer:
    """The answering side: runs commands for any number of lines and gives each its replies."""

    def __init__(self, process: Process, withdraw: Callable[[EntityId, CommandId], None]) -> None:
        self._process = process
        self._withdraw = withdraw
        self._id = uuid.uuid4().hex
        self._counters: dict[str, _Counter] = {}
        self.commands = 0
        """How many commands were taken so far."""

    @property
    def in_progress(self) -> int:
        """How many commands are being run."""
        return sum(counter.in_progress for counter in self._counters.values())

    @property
    def unfetched(self) -> int:
        """How many replies wait to be fetched."""
        return sum(counter.unfetched for counter in self._counters.values())

    async def emptied(self) -> None:
        """Return when every command has been answered and every reply fetched, if anyone still does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FETCHED_WITHIN
        while self._counters and (self.in_progress or loop.time() < deadline):  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(LONGEST_LINGER)

    async def exchange(self, origin: str, batch: Batch) -> BatchReply:
        """Take the commands in and return what replies there are, at the latest after `REST`."""
        counter = self._counters.get(origin)
        if counter is None:
            counter = self._counters[origin] = _Counter(lambda: self._forget_if_empty(origin))
        for entity_id, command_id in batch.withdrawn:
            self._withdraw(entity_id, command_id)
        self.commands += len(batch.requests)
        for request_id, command in batch.requests:
            counter.begin(request_id, command, self._process)
        try:
            return BatchReply(self._id, await counter.replies())
        finally:
            counter.drop_in_time()
            self._forget_if_empty(origin)

    def _forget_if_empty(self, origin: str) -> None:
        counter = self._counters.get(origin)
        if counter is not None and counter.is_empty:
            del self._counters[origin]


class _Counter:
    """
    One line's commands, as the answering side has them.

    A process that asks and dies fetches nothing any more. So its replies are dropped when its own time for
    each of its commands has run out.
    """

    def __init__(self, tell_dropped: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_dropped = tell_dropped
        self._waited_for_until = 0.0
        """By when the other side gives the last of its commands up."""
        self._dropping: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ready: list[tuple[RequestId, HostReply]] = []
        self._resting: asyncio.Future[None] | None = None
        self._is_waking = False
        self._linger = Linger()

    @property
    def in_progress(self) -> int:
        return len(self._running)

    @property
    def unfetched(self) -> int:
        return len(self._ready)

    @property
    def is_empty(self) -> bool:
        return not self._running and not self._ready and self._resting is None

    def begin(self, request_id: RequestId, command: Command, process: Process) -> None:
        until = self._loop.time() + command.budget + GRACE + FETCHED_WITHIN
        self._waited_for_until = max(self._waited_for_until, until)
        run = self._loop.create_task(self._run(request_id, command, process))
        self._running.add(run)
        run.add_done_callback(self._end)

    async def replies(self) -> Replies:
        """What is ready, as soon as anything is; but at once when another call comes to take over."""
        loop = self._loop
        self._relieve()
        if not self._ready and self._running:
            resting = self._resting = loop.create_future()
            rest = loop.call_later(REST, self._relieve)
            try:
                await resting
            finally:
                rest.cancel()
                if self._resting is resting:
                    self._resting = None
        return self._taken()

    def _taken(self) -> Replies:
        """The oldest replies, as many as fit into an answer; one, however large. Others go with the next."""
        octets, fitting = 0, 0
        for _, reply in self._ready:
            octets += len(reply.state.state) if isinstance(reply, Accepted) else 0
            if fitting and octets > ANSWER_OCTETS:
                break
            fitting += 1
        taken, self._ready = self._ready[:fitting], self._ready[fitting:]
        return taken

    async def _run(self, request_id: RequestId, command: Command, process: Process) -> None:
        loop = self._loop
        begun = loop.time()
        try:
            reply = await process(command)
        except Exception:
            logger.exception("a command ended in an unforeseen error")
            # Sent again, it is looked up in the journal before it runs.
            reply = TryElsewhere(maybe_stored=True)
        self._linger.note(loop.time() - begun)
        self._ready.append((request_id, reply))

    def _end(self, run: asyncio.Task[None]) -> None:
        self._running.discard(run)
        if self._resting is None:
            self.drop_in_time()
            return
        if self._is_waking:
            return
        self._is_waking = True
        # The last one has no company to wait for.
        self._loop.call_later(self._linger.seconds if self._running else 0, self._wake)

    def drop_in_time(self) -> None:
        """Drop what is ready, unless it is fetched by the time when it is of no use."""
        if self._ready and self._dropping is None:
            self._dropping = self._loop.call_at(self._waited_for_until, self._drop)

    def _drop(self) -> None:
        self._dropping = None
        if not self._ready or self._resting is not None:
            return
        if self._loop.time() < self._waited_for_until:
            # Others have come meanwhile.
            self.drop_in_time()
            return
        logger.info("replies that nobody fetches are dropped", extra={"replies": len(self._ready)})
        self._ready.clear()
        self._tell_dropped()

    def _wake(self) -> None:
        self._is_waking = False
        self._relieve()

    def _relieve(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)
