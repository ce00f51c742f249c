"""
Entities that live in a shard host until they are busy enough for a process of their own (`auto` placement).

The host always knows where each of its entities lives: it tells senders of an entity that has its own
process, and they send there from then on. An entity moves as a shard does: its process starts in the
background while commands are answered here; then the host takes no new ones for it, finishes those in hand,
and redirects those that have come meanwhile. When the process leaves, dies or does not answer, the entity
lives here again from its next command. All that is for speed: should two copies run, the journal decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from cos_ray.domain.errors import OUT_OF_TIME, OUTCOME_UNKNOWN, EntityLost, OutOfTime, Withdrawn
from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Command, Refused
from cos_ray.domain.own_processes import SATURATED_LOOKS, Pace, Room, Why, barred_for, choose
from cos_ray.placement.activity import Activity
from cos_ray.placement.live_entities import LiveEntities
from cos_ray.ports import Clock
from cos_ray.transport.host_reply import HostReply, Owned
from cos_ray.writeside.refusals import status_of

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks for entities that should have a process of their own."""

FORGIVEN_AFTER = 600.0
"""Seconds after which the loss of a process does not count any more."""


class OwnProcess(Protocol):
    """An entity's own process, which answers."""

    @property
    def way(self) -> bytes:
        """How commands get there; no other process has the same."""
        ...

    @property
    def has_left(self) -> bool:
        """Whether it ends in good order, for its entity has rested."""
        ...

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call this when it is known to leave, or to be dead; at once if it is."""
        ...


class OwnProcesses(Protocol):
    """Processes of entities, as a shard host reaches them. Raises EntityLost throughout."""

    async def room(self) -> tuple[Room, Collection[EntityId]]:
        """What room there is, and who has a process or is given one."""
        ...

    async def start(self, entity_id: EntityId) -> OwnProcess | None:
        """The entity's process, which is started if there is none; None: there was no room for it."""
        ...

    async def find(self, entity_id: EntityId) -> OwnProcess | None:
        """The entity's process, if it has one that answers soon."""
        ...

    async def end(self, process: OwnProcess) -> None:
        """End it when it has ended what it has in hand; if it does not answer, at once."""
        ...


class Promotions:
    """Runs commands of entities that live here, and knows of the others of this host where they live."""

    def __init__(self, live: LiveEntities, processes: OwnProcesses, clock: Clock) -> None:
        self._live = live
        self._processes = processes
        self._clock = clock
        self._is_mine: Callable[[EntityId], bool] = lambda _: False
        self._own: dict[EntityId, _Own] = {}
        # Commands that wait for their entity to move.
        self._held: set[CommandId] = set()
        self._moving: set[EntityId] = set()
        """Whose processes start, or are being found."""
        self._ending: set[EntityId] = set()
        """Whose processes have been told to end, and may still be there."""
        self._losses: dict[EntityId, _Losses] = {}
        self._activity = Activity(clock.monotonic())
        self._took = 0.0
        self._started_at = float("-inf")
        self._others: Mapping[EntityId, Why] = {}
        self._saturated_looks = 0
        # The loop keeps no strong reference to them.
        self._tasks: set[asyncio.Task[Any]] = set()
        self.promotions = 0
        """How many entities got processes of their own so far."""

    async def run(self, is_mine: Callable[[EntityId], bool]) -> None:
        """Look for entities to promote, until cancelled; `is_mine`: whether an entity's home is this host."""
        self._is_mine = is_mine
        while True:
            await self._clock.sleep(LOOK_EVERY)
            try:
                await self.look()
            except EntityLost as error:
                logger.info("no room is known for processes of entities", extra={"reason": str(error)})
            except Exception:
                # Commands go on without it; the next look may be luckier.
                logger.exception("a look for busy entities ended in an unforeseen error")

    async def process(self, command: Command) -> HostReply:
        """Run the command here, or say which process of its own the entity has."""
        entity_id = command.entity_id
        own = self._own.get(entity_id)
        if own is None:
            self._activity.note(entity_id)
            return await self._live.process(command)
        # While it moves, what it had in hand comes first.
        deadline = self._clock.monotonic() + command.budget
        self._held.add(command.command_id)
        try:
            own = await self._moved(own, entity_id, deadline)
        except OutOfTime:
            return Refused(OUTCOME_UNKNOWN if command.maybe_stored else OUT_OF_TIME)
        finally:
            is_withdrawn = command.command_id not in self._held
            self._held.discard(command.command_id)
        if own is not None:
            return Owned(own.process.way)
        if is_withdrawn:
            gone = Withdrawn(command.command_id)
            return Refused(status_of(gone, command.key, in_doubt=command.maybe_stored))
        return await self._live.process(replace(command, budget=deadline - self._clock.monotonic()))

    async def _moved(self, own: _Own | None, entity_id: EntityId, deadline: float) -> _Own | None:
        """The entity's process when the entity has moved there; None if it lives here. Raises OutOfTime."""
        while own is not None and not own.has_moved.is_set():
            left = deadline - self._clock.monotonic()
            if left <= 0 or not await _comes(own.has_moved, left):
                raise OutOfTime
            own = self._own.get(entity_id)
        return own

    def withdraw(self, entity_id: EntityId, command_id: CommandId) -> None:
        """Drop the command, unless it is being appended already."""
        self._held.discard(command_id)
        self._live.withdraw(entity_id, command_id)

    async def release(self, is_leaving: Callable[[EntityId], bool]) -> None:
        """Let these entities end what they have begun, here and in their own processes, and forget them."""
        leaving = [(entity_id, own) for entity_id, own in self._own.items() if is_leaving(entity_id)]
        for entity_id, own in leaving:
            self._forget(entity_id, own)
        ending = (self._end(entity_id, own.process) for entity_id, own in leaving)
        await asyncio.gather(self._live.release(is_leaving), *ending)

    def lost(self, entity_id: EntityId, way: bytes) -> None:
        """Someone has had no answer from the entity's process: it lives here again, and that process ends."""
        own = self._own.get(entity_id)
        if own is not None and own.process.way == way:
            logger.warning(
                "an entity's process is given up: it lives in its shard host again",
                extra={"entity_id": entity_id},
            )
            self._forget(entity_id, own)
            self._bar(entity_id)
            self._spawn(self._end(entity_id, own.process))

    async def look(self) -> None:
        """Find out who should have a process, and begin to give them one. Raises EntityLost."""
        if self._activity.is_idle and not self._own:
            return
        now = self._clock.monotonic()
        busy = self._activity.busy(now)
        room, present = await self._processes.room()
        for entity_id in present:
            if self._is_stray(entity_id, now):
                self._spawn(self._move(entity_id, self._processes.find(entity_id)))
        self._saturated_looks = self._saturated_looks + 1 if room.is_saturated else 0
        if self._saturated_looks > SATURATED_LOOKS:
            self._give_one_back()
        barred = [each for each in busy if self._is_barred(each, now)]
        pace = Pace(len(self._moving), self._took, now - self._started_at)
        choice = choose(busy, room, pace, self._moving, barred)
        self._others = choice.others
        for entity_id in choice.start:
            if self._is_mine(entity_id):
                self._spawn(self._promote(entity_id))

    def _give_one_back(self) -> None:
        """End the process that was started last: in the host its entity's commands cost less."""
        moved = [(entity_id, own) for entity_id, own in self._own.items() if own.has_moved.is_set()]
        for entity_id, own in moved[-1:]:
            logger.info("a process is given back, for the CPUs are busy", extra={"entity_id": entity_id})
            self._forget(entity_id, own)
            self._bar(entity_id)
            self._spawn(self._end(entity_id, own.process))

    @property
    def own(self) -> Collection[EntityId]:
        """Who of this host's entities has a process."""
        return self._own.keys()

    def reasons(self) -> Mapping[Why, int]:
        """How many of those that live here have no process for which reason."""
        counts = Counter(why for entity_id, why in self._others.items() if entity_id not in self._own)
        counts[Why.SELDOM] += max(0, len(self._live) - counts.total())
        return counts

    async def _promote(self, entity_id: EntityId) -> None:
        begun = self._clock.monotonic()
        try:
            await self._move(entity_id, self._processes.start(entity_id))
        finally:
            self._started_at = self._clock.monotonic()
            self._took = self._started_at - begun

    async def _move(self, entity_id: EntityId, obtaining: Awaitable[OwnProcess | None]) -> None:
        """Let the entity live in the process that is obtained; until then it lives here."""
        self._moving.add(entity_id)
        try:
            process = await obtaining
        except EntityLost as error:
            logger.info("an entity gets no process", extra={"entity_id": entity_id, "reason": str(error)})
            self._bar(entity_id)
            return
        finally:
            self._moving.discard(entity_id)
        if process is None:
            return
        if not self._is_mine(entity_id):
            await self._end(entity_id, process)
            return
        own = self._own[entity_id] = _Own(process)
        process.when_gone(lambda: self._gone(entity_id, own))
        await self._live.release_one(entity_id)
        self._activity.forget(entity_id)
        own.has_moved.set()
        self.promotions += 1

    def _gone(self, entity_id: EntityId, own: _Own) -> None:
        if self._own.get(entity_id) is own:
            self._forget(entity_id, own)
            if not own.process.has_left:
                self._bar(entity_id)

    def _forget(self, entity_id: EntityId, own: _Own) -> None:
        del self._own[entity_id]
        # Whoever waits for it looks again, and finds it here.
        own.has_moved.set()

    def _is_stray(self, entity_id: EntityId, now: float) -> bool:
        """Whether it is ours and has a process, but this host was not there when that was started."""
        is_known = entity_id in self._own or entity_id in self._moving
        return not is_known and self._is_mine(entity_id) and not self._is_barred(entity_id, now)

    def _bar(self, entity_id: EntityId) -> None:
        now = self._clock.monotonic()
        for each, losses in list(self._losses.items()):
            if losses.latest < now - FORGIVEN_AFTER:
                del self._losses[each]
        losses = self._losses.setdefault(entity_id, _Losses())
        losses.number += 1
        losses.latest = now

    def _is_barred(self, entity_id: EntityId, now: float) -> bool:
        if entity_id in self._ending:
            return True
        losses = self._losses.get(entity_id)
        return losses is not None and now - losses.latest < barred_for(losses.number)

    async def _end(self, entity_id: EntityId, process: OwnProcess) -> None:
        self._ending.add(entity_id)
        try:
            await self._processes.end(process)
        except EntityLost as error:
            logger.info("a process of an entity cannot be told to end", extra={"reason": str(error)})
        finally:
            self._ending.discard(entity_id)

    def _spawn(self, doing: Any) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the move of an entity ended in an unforeseen error", exc_info=error)


class _Own:
    """An entity's process, and whether the entity has moved there."""

    __slots__ = ("has_moved", "process")

    def __init__(self, process: OwnProcess) -> None:
        self.process = process
        self.has_moved = asyncio.Event()


class _Losses:
    """How often an entity has lost its process, and when last."""

    __slots__ = ("latest", "number")

    def __init__(self) -> None:
        self.number = 0
        self.latest = 0.0


async def _comes(event: asyncio.Event, within: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within)
    except asyncio.TimeoutError:
        return False
    return True
