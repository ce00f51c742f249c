"""
Who holds which seat: starts shard hosts, replaces those that fall silent, adds and removes them.

A host whose process dies is started again by Ray, under its name. The coordinator's own work is what Ray
does not see: a process that is there but does not answer, a cluster that has grown. The coordinator
remembers nothing that the hosts could not tell it after its own death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection

from cos_ray.domain.errors import EntityLost
from cos_ray.domain.shard_assignment import Assignment, HostId, replaced, resized
from cos_ray.ports import Clock, ShardHosts

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks after the hosts."""

ANSWER_WITHIN = 2.0
"""Seconds that a host may take to answer one question of the coordinator."""

SILENT_AFTER = 5.0
"""Seconds of silence, as the coordinator has watched it, after which a host's seat is given to another."""

STARTS_WITHIN = 30.0
"""Seconds that a host may take to its first answer."""

STALLED_AFTER = 1.0
"""Seconds by which a look may outlast the hosts' time to answer; beyond, the coordinator was held up."""

STEADY_FOR = 10.0
"""Seconds that the cluster must have had its size before hosts are added or removed for it."""


class ShardCoordinator:
    """Keeps the seats taken by hosts that answer."""

    def __init__(self, hosts: ShardHosts, shards: int, seats: int | None, clock: Clock) -> None:
        """`seats`: how many hosts there are to be; None: as many as suit the cluster."""
        self._hosts = hosts
        self._shards = shards
        self._seats = seats
        self._clock = clock
        self._assignment: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()
        self._patience: dict[HostId, float] = {}
        """For how many seconds more each host may stay silent, while it is watched."""
        self._watching_since = clock.monotonic()
        self._started: set[HostId] = set()
        self._wanted: tuple[int, float] | None = None
        """Another number of seats that the cluster calls for, and since when."""
        self._changing = asyncio.Lock()

    def begin_with(self, seats: int | None) -> None:
        """What an earlier life of this coordinator was told by `resize`; before `run`."""
        self._seats = seats

    async def assignment(self) -> Assignment:
        """The newest, as soon as there is one."""
        return await asyncio.shield(self._assignment)

    async def run(self) -> None:
        """Look after the hosts, until cancelled."""
        while not self._assignment.done():
            try:
                await self._begin()
            except EntityLost as error:
                logger.warning("shard hosts cannot be started", extra={"reason": str(error)})
                await self._clock.sleep(LOOK_EVERY)
        while True:
            await self._clock.sleep(LOOK_EVERY)
            try:
                await self.look_after()
            except EntityLost as error:
                logger.warning("shard hosts cannot be looked after", extra={"reason": str(error)})

    async def resize(self, seats: int | None) -> Assignment:
        """Have so many hosts from now on; None: as many as suit the cluster."""
        self._seats = seats
        wanted = await self._hosts.seats() if seats is None else seats
        async with self._changing:
            await self._resize_to(wanted)
        return await self.assignment()

    async def look_after(self) -> None:
        """One look: tell all what holds, replace who is silent for too long, retire who is left over."""
        async with self._changing:
            assignment = await self.assignment()
            await self._watch(assignment)
            for host in assignment.hosts:
                if self._patience[host] < 0:
                    logger.warning("shard host is silent; another takes its place", extra={"host": host})
                    await self._change(replaced(await self.assignment(), host, await self._present()))
            await self._follow_cluster()
            assignment = await self.assignment()
            others = set(await self._hosts.names()) - set(assignment.hosts)
        # As often as it takes; who wants another number of hosts meanwhile does not wait for them.
        await asyncio.gather(*(self._see_off(host, assignment) for host in others))

    async def _watch(self, assignment: Assignment) -> None:
        """
        Tell all what holds, and lose patience with who does not answer.

        Answers that came while this process was held up (frozen, say, or starved) may be found only
        after their time; such a look says nothing of any host. No look counts for more than it lasts.
        """
        asked_at = self._clock.monotonic()
        answered = await asyncio.gather(*(self._tell(host) for host in assignment.hosts))
        now = self._clock.monotonic()
        watched = min(now - self._watching_since, LOOK_EVERY + ANSWER_WITHIN)
        self._watching_since = now
        if now - asked_at > ANSWER_WITHIN + STALLED_AFTER:
            logger.warning(
                "the coordinator of the shard hosts was held up", extra={"seconds": now - asked_at}
            )
            return
        for host, has_answered in zip(assignment.hosts, answered, strict=True):
            if not has_answered:
                self._patience[host] -= watched

    async def _begin(self) -> None:
        """Go on with what the hosts know of, or make a beginning."""
        names = await self._hosts.names()
        known = await asyncio.gather(*(self._answer(self._hosts.tell(host, None)) for host in names))
        newest = max((one for one in known if one is not None), key=lambda one: one.epoch, default=None)
        # By the time of day, so that what an earlier coordinator has said counts as older even if all
        # who heard it, but for those who ask, are gone.
        epoch = max(int(self._clock.now().timestamp() * 1000), newest.epoch + 1 if newest else 0)
        if newest is not None and newest.shards == self._shards:
            beginning = Assignment(epoch, self._shards, newest.hosts, newest.given_up)
        else:
            beginning = Assignment(epoch, self._shards, ())
        seats = self._seats or len(beginning.hosts) or await self._hosts.seats()
        if seats != len(beginning.hosts):
            # Hosts that are there and have not answered go on, under their names.
            beginning = resized(beginning, seats, beginning.hosts)
        # Who is new is told what held before, and asks the former homes to let go.
        await self._start(newest or beginning, beginning.hosts)
        self._assignment.set_result(beginning)
        await asyncio.gather(*(self._tell(host) for host in beginning.hosts))

    async def _tell(self, host: HostId) -> bool:
        """Whether it has heard what holds."""
        answer = await self._answer(self._hosts.tell(host, await self.assignment()))
        if answer is not None:
            self._patience[host] = SILENT_AFTER
        return answer is not None

    async def _follow_cluster(self) -> None:
        if self._seats is not None:
            return
        assignment = await self.assignment()
        wanted = max(1, min(await self._hosts.seats(), assignment.shards))
        now = self._clock.monotonic()
        if wanted == len(assignment.hosts):
            self._wanted = None
        elif self._wanted is None or self._wanted[0] != wanted:
            self._wanted = (wanted, now)
        elif now - self._wanted[1] >= STEADY_FOR:
            self._wanted = None
            await self._resize_to(wanted)

    async def _resize_to(self, seats: int) -> None:
        assignment = await self.assignment()
        if max(1, min(seats, assignment.shards)) != len(assignment.hosts):
            logger.info(
                "the number of shard hosts changes", extra={"from": len(assignment.hosts), "to": seats}
            )
            await self._change(resized(assignment, seats, await self._present()))

    async def _change(self, assignment: Assignment) -> None:
        """Let this be the newest assignment, and everyone know."""
        former = await self.assignment()
        # They begin with what held before them, and so ask the former homes to let go.
        await self._start(former, set(assignment.hosts) - set(former.hosts))
        self._patience = {host: self._patience[host] for host in assignment.hosts}
        self._assignment = asyncio.get_running_loop().create_future()
        self._assignment.set_result(assignment)
        await asyncio.gather(*(self._tell(host) for host in assignment.hosts))

    async def _start(self, assignment: Assignment, hosts: Collection[HostId]) -> None:
        for host in hosts:
            self._started.add(host)
            await self._hosts.start(host, assignment)
            self._patience[host] = STARTS_WITHIN

    async def _present(self) -> Collection[HostId]:
        """All hosts that may live, or may still be asked to leave."""
        return {*await self._hosts.names(), *self._started}

    async def _see_off(self, host: HostId, assignment: Assignment) -> None:
        """Ask a host without a seat to leave."""
        await self._answer(self._hosts.tell(host, assignment))
        await self._answer(self._hosts.retire(host))

    async def _answer(self, question: Awaitable[Assignment | None]) -> Assignment | None:
        try:
            return await asyncio.wait_for(question, ANSWER_WITHIN)
        except (EntityLost, asyncio.TimeoutError):
            return None
