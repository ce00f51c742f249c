"""
The parts of a service that nobody launches: Ray Serve deploys its ingress, and that has the rest come up.

Each deployment of the application is a release, with actors of its own in a namespace of its own: a
new release neither waits for the old one's actors nor takes them away under commands in progress, and
where both are home to an entity for a while, the journal decides. A release's supervisor starts its
parts, and ends them when no replica of its ingress has been there for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster import service_registry
from cos_ray.cluster.head_probe import HeadProbe
from cos_ray.cluster.names import RELEASE_SUPERVISOR
from cos_ray.cluster.release_supervision import ReleaseSupervision
from cos_ray.cluster.runtime import RayCluster, stop_actors
from cos_ray.domain.errors import StartFailed
from cos_ray.domain.release_lease import LAPSES_AFTER, LOOK_EVERY, STARTED_WITHIN
from cos_ray.telemetry.logs import LogSettings
from cos_ray.transport.lazy_pickle import LazyPickle

logger = logging.getLogger(__name__)

RENEWED_EVERY = LAPSES_AFTER / 10
"""Seconds between two words of a replica."""

READ_SIDE_DRAIN = timedelta(seconds=5)
"""How long read sides may take to finish what they have begun."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a replica has to know to have the rest of the service come up."""

    service: str
    """The service's own namespace, under which other programs find its way in."""
    namespace: str
    """This release's."""
    start: LazyPickle[None]
    """Starts all parts that do not run yet; blocks meanwhile. Raises StartFailed."""
    way_in: LazyPickle[Any]
    logs: LogSettings


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class ReleaseSupervisorActor:
    """Looks after one release; when that is over is decided by `cos_ray.domain.release_lease`."""

    def __init__(self, release: Release) -> None:
        release.logs.apply()
        head = HeadProbe()
        self._stewardship = ReleaseSupervision(
            release.start, partial(_end, release), partial(head.answers_within, LOOK_EVERY)
        )
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._stewardship.run())

    async def note(self) -> bool | StartFailed:
        """A replica is there; False: the release is ending. Answers once the parts run."""
        return await self._stewardship.note()


def _end(release: Release) -> None:
    service_registry.withdraw(release.service, release.way_in)
    stop_actors(RayCluster(release.namespace, is_ours=False, nodes=0, dashboard=None), READ_SIDE_DRAIN)
    ray.kill(ray.get_runtime_context().current_actor)


class Attendance:
    """A replica's presence at its release: there from `begin` on, for as long as its process lives."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._renewing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Return when all parts of the release run. Raises StartFailed."""
        deadline = time.monotonic() + STARTED_WITHIN
        while not await self._note():
            if time.monotonic() > deadline:
                raise StartFailed(f"the parts of {self._release.namespace} do not start")
            await asyncio.sleep(0.2)
        # Other programs come in by the release whose replica came up last.
        await asyncio.to_thread(service_registry.publish, self._release.service, self._release.way_in)
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY)
            await self.renew_once()

    async def renew_once(self) -> None:
        """Say that we are there. A supervisor that had ended took the way in with it: put it up again."""
        try:
            if await self._note():
                await asyncio.to_thread(
                    service_registry.publish, self._release.service, self._release.way_in, only_if_none=True
                )
        except StartFailed as error:
            logger.error("the parts of the release cannot be started", extra={"reason": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the next word must be said
            logger.warning("presence not renewed", extra={"reason": repr(error)})

    async def _note(self) -> bool:
        """Whether the release supervisor, an old one or a new one, knows of us and all is well."""
        try:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            supervisor = await asyncio.to_thread(_found_or_started, self._release)
            answer = await asyncio.wait_for(_noted(supervisor), STARTED_WITHIN)
        except (RayError, ValueError, asyncio.TimeoutError) as error:
            logger.info("supervisor lost", extra={"reason": repr(error)})
            return False
        if isinstance(answer, StartFailed):
            raise answer
        return answer


async def _noted(supervisor: ActorHandle[Any]) -> bool | StartFailed:
    answer: bool | StartFailed = await supervisor.note.remote()
    return answer


def _found_or_started(release: Release) -> ActorHandle[Any]:
    handle: ActorHandle[Any] = ReleaseSupervisorActor.options(  # type: ignore[attr-defined]
        name=RELEASE_SUPERVISOR, namespace=release.namespace, lifetime="detached", get_if_exists=True
    ).remote(release)
    return handle
