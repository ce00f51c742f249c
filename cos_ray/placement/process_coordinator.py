"""
Decides which entities have a process, with dedicated placement: starts them within the bounds of the nodes,
and passivates the least recently used. A process that does not answer is replaced, and nobody else waits
for it.

There is one for the whole cluster. It is asked only for an entity whose process is not known. It can
rebuild what it knows from the processes that are there, and the journal puts right what it gets wrong. Free
of Ray: processes are reached through `EntityProcesses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cos_ray.domain.errors import EntityLost, NoRoom
from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import RESTED, Room
from cos_ray.domain.passivation import (
    NodeId,
    ProcessLimits,
    least_recently_used,
    resting_since,
    roomiest,
)
from cos_ray.placement.entity_processes import EntityProcesses, Living, Place
from cos_ray.ports import Clock
from cos_ray.transport.silence import falls_silent

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 2.0
"""Seconds in which who asks for room is told to ask again; their place in the queue is kept."""

PLACE_KEPT = 1.0
"""Seconds for which it is kept if they do not ask again."""

LOOK_EVERY = 1.0
"""Seconds between two looks for entities that have rested long enough."""

COUNT_EVERY = 5.0
"""Seconds between two counts of who is really there."""

LEAVING_AT_ONCE = 8
"""How many entities are asked at the same time to leave."""

ANSWERS_SOON = 1.0
"""Seconds to wait for whom of those that were asked to leave; who says nothing by then may hang."""

SLOT_FOR = 10.0
"""Seconds for which a start counts as one of those that are of use at the same time: it may hang, too."""

BREATH = 0.05
"""Seconds before entities are asked again when all of them had something to do."""

SOON = 10.0
"""An entity that has to leave although it was used within so many seconds shows that there are too many."""

COMPLAIN_EVERY = 60.0
"""Seconds between two lines in the log about that."""


class ProcessCoordinator:
    """Admits entities to memory, first come first served."""

    def __init__(self, homes: EntityProcesses, limits: ProcessLimits, clock: Clock) -> None:
        self._homes = homes
        self._limits = limits
        self._clock = clock
        self._live: dict[EntityId, Living] = {}
        self._places: dict[EntityId, Place] = {}
        """Who waits, in order."""
        self._starting: dict[EntityId, float] = {}
        """Since when."""
        # The loop keeps no strong reference to them.
        self._aside: set[asyncio.Task[Any]] = set()
        self._bounds: Mapping[NodeId, int] = {}
        self._starts_at_once = 1
        self._making_room: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._counted = asyncio.Event()
        self._preparing: dict[NodeId, asyncio.Task[None]] = {}
        self._complained_at = float("-inf")
        self._used_up: set[NodeId] = set()
        """Where processes that were ready are so no longer."""
        self.activations = 0
        """How many entities were given a process so far."""
        self.passivations = 0
        """How many were asked to leave, and did."""

    async def run(self) -> None:
        """Work, until cancelled."""
        await asyncio.gather(
            self._count_again_and_again(), self._admit_again_and_again(), self._tidy(), self._keep_warm()
        )

    async def admit(self, entity_id: EntityId, only_if_room: bool = False) -> Any | None:
        """
        The way to the entity's process, woken if there is room for it; None: not yet, ask again soon.

        Raises EntityLost when its process cannot be started. `only_if_room`: raises NoRoom at once if another
        would have to make room that has not rested for a while.
        """
        place = self._places.get(entity_id)
        if only_if_room and place is None and entity_id not in self._live:
            room = self.room()
            if room.free + room.rested <= 0:
                raise NoRoom
        if place is None:
            place = self._places[entity_id] = Place()
        place.kept_until = self._clock.monotonic() + ANSWER_WITHIN + PLACE_KEPT
        self._news.set()
        patience = asyncio.ensure_future(self._clock.sleep(ANSWER_WITHIN))
        await asyncio.wait({place.home, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if place.home.done():
            return place.home.result()
        place.kept_until = self._clock.monotonic() + PLACE_KEPT
        return None

    async def ready(self) -> None:
        """Return when all nodes are as ready for the first entity as they can be."""
        await self._counted.wait()
        await asyncio.gather(*self._preparing.values())
        # What else has started meanwhile may have got those that were warm.
        await asyncio.gather(*(self._homes.warm(node, self._room(node)) for node in self._bounds))

    def used(self, entity_ids: Iterable[EntityId]) -> None:
        """These have had commands just now."""
        now = self._clock.monotonic()
        for entity_id in entity_ids:
            if (living := self._live.get(entity_id)) is not None:
                living.used_at = max(living.used_at, now)

    def suspect(self, entity_ids: Iterable[EntityId]) -> None:
        """These have left commands, or their callers' pings, unanswered: find out whether they hang."""
        for entity_id in entity_ids:
            living = self._live.get(entity_id)
            if living is not None and not living.is_doubted:
                living.is_doubted = True
                self._set_aside(asyncio.get_running_loop().create_task(self._look_into(entity_id, living)))

    def room(self) -> Room:
        """What room there is for more entities: before all processes are counted, none."""
        if not self._counted.is_set():
            return Room(free=0, rested=0, slots=0)
        now, live = self._clock.monotonic(), self.counts()
        free = sum(max(0, bound - live.get(node, 0)) for node, bound in self._bounds.items())
        rested = sum(
            not each.is_spared and entity_id not in self._starting and now - each.used_at >= RESTED
            for entity_id, each in self._live.items()
        )
        waiting = sum(entity_id not in self._live for entity_id in self._places)
        slots = self._starts_at_once - len(self._starting) - waiting
        rested = max(0, rested - max(0, waiting - free))
        return Room(max(0, free - waiting), rested, max(0, slots))

    def counts(self) -> Mapping[NodeId, int]:
        """How many are in memory on each node, as far as is known."""
        return Counter(living.node for living in self._live.values())

    @property
    def live(self) -> Collection[EntityId]:
        """Who is in memory, as far as is known."""
        return self._live.keys()

    @property
    def waiting(self) -> Collection[EntityId]:
        """Who waits for room or for a process to start, in order."""
        return self._places.keys()

    async def _admit_again_and_again(self) -> None:
        await self._counted.wait()
        while True:
            await self._news.wait()
            self._news.clear()
            self._give_up_places()
            lacking = self._start_those_with_room()
            if lacking and (self._making_room is None or self._making_room.done()):
                self._making_room = asyncio.get_running_loop().create_task(self._make_room(lacking))

    def _give_up_places(self) -> None:
        """No one asks for these any more."""
        now = self._clock.monotonic()
        for entity_id, place in list(self._places.items()):
            if place.kept_until < now and entity_id not in self._starting:
                del self._places[entity_id]

    def _start_those_with_room(self) -> int:
        """Start the first in line, as many as can be started; how many lack room."""
        lacking = 0
        now = self._clock.monotonic()
        slots = self._starts_at_once - sum(now - begun < SLOT_FOR for begun in self._starting.values())
        for entity_id, place in self._places.items():
            living = self._live.get(entity_id)
            is_there = living is not None and living.is_known
            # One that is there takes no slot: it answers at once, or hangs.
            if entity_id in self._starting or not (slots > 0 or is_there):
                continue
            if living is not None and living.is_leaving:
                continue
            if living is None or living.node not in self._bounds:
                node = roomiest(Counter(each.node for each in self._live.values()), self._bounds)
                if node is None or lacking:
                    lacking += 1
                    continue
                living = self._live[entity_id] = Living(node, now)
            self._starting[entity_id] = float("-inf") if is_there else now
            slots -= not is_there
            self._set_aside(asyncio.get_running_loop().create_task(self._start(entity_id, living, place)))
        return lacking

    async def _start(self, entity_id: EntityId, living: Living, place: Place) -> None:
        is_new = not living.is_known
        home: Any = None
        try:
            home = await self._homes.start(entity_id, living.node)
            living.is_known = True
            self._places.pop(entity_id, None)
            place.home.set_result(home)
            if not is_new:
                # Who asks for the way to a process that is there has lost it, perhaps because it hangs.
                self.suspect([entity_id])
            await self._homes.up(home)
            if is_new:
                self.activations += 1
                self._used_up.add(living.node)
        except EntityLost as error:
            self._forget(entity_id, living)
            self._places.pop(entity_id, None)
            if not place.home.done():
                place.home.set_exception(error)
                place.home.exception()  # whether anyone still waits for it or not
            await self._end_for_good(home)
        finally:
            living.used_at = self._clock.monotonic()
            del self._starting[entity_id]
            self._news.set()

    async def _end_for_good(self, home: Any) -> None:
        """End a process that did not start in time: under its name, it would be found again and again."""
        if home is not None:
            with contextlib.suppress(EntityLost):
                await self._homes.kill(home)

    async def _make_room(self, wanted: int) -> None:
        """Let some of those leave that are idle, the least recently used first."""
        used_at = {entity_id: living.used_at for entity_id, living in self._live.items()}
        spared = {*self._starting, *(each for each, living in self._live.items() if living.is_spared)}
        order = deque(least_recently_used(used_at, spared))
        now = self._clock.monotonic()
        wanted = min(wanted, LEAVING_AT_ONCE)
        left = 0
        asked: dict[asyncio.Task[bool], EntityId] = {}
        while left < wanted and (order or asked):
            while order and len(asked) < wanted - left:
                self._ask_to_leave(order.popleft(), 0.0, asked)
            gone = await self._next_gone(asked)
            left += len(gone)
            if any(now - used_at[each] < SOON for each in gone):
                self._complain()
        if not left:
            self._complain()
            await self._clock.sleep(BREATH)
        self._news.set()

    def _ask_to_leave(
        self, entity_id: EntityId, after: float, asked: dict[asyncio.Task[bool], EntityId]
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._passivate(entity_id, after))
        asked[task] = entity_id
        self._set_aside(task)

    async def _next_gone(self, asked: dict[asyncio.Task[bool], EntityId]) -> list[EntityId]:
        """
        Who leaves next; takes those out of `asked` who have answered.

        When nobody answers soon, takes all out and looks into them: who hangs must not hold up the others.
        """
        patience = asyncio.ensure_future(self._clock.sleep(ANSWERS_SOON))
        await asyncio.wait({*asked, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        answered = [task for task in asked if task.done()]
        if not answered:
            self.suspect(asked.values())
            asked.clear()
        return [entity_id for task in answered if (entity_id := asked.pop(task)) and task.result()]

    def _set_aside(self, task: asyncio.Task[Any]) -> None:
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _look_into(self, entity_id: EntityId, living: Living) -> None:
        """Replace the entity's process if it hangs. The journal decides, should it wake up nevertheless."""
        try:
            home = await self._homes.find(entity_id)
            if home is not None and await falls_silent(self._homes.ping(home), self._clock.sleep):
                logger.warning("a process that does not answer is ended", extra={"entity_id": entity_id})
                await self._homes.kill(home)
                home = None
            if home is None:
                self._forget(entity_id, living)
        except EntityLost as error:
            # The next count knows.
            logger.info("entity lost", extra={"entity_id": entity_id, "reason": str(error)})
        finally:
            living.is_doubted = False
            self._news.set()

    def _complain(self) -> None:
        now = self._clock.monotonic()
        if now - self._complained_at < COMPLAIN_EVERY:
            return
        self._complained_at = now
        bound = sum(self._bounds.values())
        logger.warning(
            "more entities are in use than may have a process each (COS_MAX_LIVE_ENTITY_ACTORS): commands "
            "wait for others to leave. COS_ENTITY_PLACEMENT=sharded holds many entities in each process",
            extra={"live": len(self._live), "waiting": len(self._places), "bound": bound},
        )

    async def _tidy(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY)
            # Places whose owners have gone must not be taken for a want of room.
            self._news.set()
            await self.passivate_idle()

    async def _keep_warm(self) -> None:
        """Make up for the processes that entities have got, when there is time."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            if self._starting or self._places:
                continue
            used_up, self._used_up = self._used_up, set()
            for node in used_up:
                await self._homes.warm(node, self._room(node))

    def _room(self, node: NodeId) -> int:
        """How many more processes the node may have."""
        return max(0, self._bounds.get(node, 0) - sum(living.node == node for living in self._live.values()))

    async def _prepare(self, node: NodeId, bound: int) -> None:
        """Have a new node ready before its first command, which else would wait for several processes."""
        try:
            await asyncio.gather(self._homes.warm(node, bound), self._homes.prepare(node))
        except EntityLost as error:
            # Its first entity sees to it.
            logger.warning("a node is not prepared", extra={"node": node, "reason": str(error)})

    async def passivate_idle(self) -> None:
        """Passivate those that have rested long enough."""
        after = self._limits.idle_after
        used_at = {
            entity_id: living.used_at
            for entity_id, living in self._live.items()
            if not living.is_spared and entity_id not in self._starting
        }
        asked: dict[asyncio.Task[bool], EntityId] = {}
        for entity_id in resting_since(used_at, self._clock.monotonic() - after)[:LEAVING_AT_ONCE]:
            self._ask_to_leave(entity_id, after, asked)
        while asked:
            await self._next_gone(asked)

    async def _passivate(self, entity_id: EntityId, after: float) -> bool:
        """Whether it is gone."""
        living = self._live.get(entity_id)
        if living is None or living.is_leaving:
            return False
        living.is_leaving = True
        try:
            rested = await self._homes.passivate(entity_id, after)
        except EntityLost:
            # Nobody knows; the next count does.
            rested = 0.0
        finally:
            living.is_leaving = False
            self._news.set()
        if rested is None:
            self.passivations += 1
            self._forget(entity_id, living)
            return True
        living.used_at = max(living.used_at, self._clock.monotonic() - rested)
        return False

    def _forget(self, entity_id: EntityId, living: Living) -> None:
        if self._live.get(entity_id) is living:
            del self._live[entity_id]

    async def _count_again_and_again(self) -> None:
        while True:
            try:
                await self.count()
            except EntityLost as error:
                logger.info("entities could not be counted", extra={"reason": str(error)})
            await self._clock.sleep(COUNT_EVERY if self._counted.is_set() else BREATH)

    async def count(self) -> None:
        """Learn who is really there, and what room there is. Raises EntityLost."""
        begun = self._clock.monotonic()
        bounds, present = await asyncio.gather(self._homes.bounds(), self._homes.census())
        self._starts_at_once = max(1, await self._homes.starts_at_once())
        most = self._limits.most_per_node
        for node in bounds.keys() - self._bounds.keys():
            self._preparing[node] = asyncio.get_running_loop().create_task(
                self._prepare(node, bounds[node] if most is None else most)
            )
        for node in self._preparing.keys() - bounds.keys():
            # Under its id it does not come back.
            del self._preparing[node]
        self._bounds = bounds if most is None else dict.fromkeys(bounds, most)
        for entity_id, living in list(self._live.items()):
            is_settled = living.since < begun and entity_id not in self._starting and not living.is_leaving
            if is_settled and entity_id not in present:
                self._forget(entity_id, living)
        for entity_id, node in present.items():
            living = self._live.setdefault(entity_id, Living(node, begun))
            living.node, living.is_known = node, True
        self._counted.set()
        self._news.set()
