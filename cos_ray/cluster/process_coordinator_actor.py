"""
The process that admits entities to memory, with dedicated placement.

Commands to entities that are awake do not pass through it. When it dies, Ray starts it anew and it
counts who is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from cos_ray.cluster.entity_actor import EntityBuilder
from cos_ray.cluster.entity_processes import EntityProcesses
from cos_ray.cluster.journal_actor import JournalSpec
from cos_ray.cluster.metrics_export import exported_meters
from cos_ray.cluster.names import PROCESS_COORDINATOR
from cos_ray.domain.errors import EntityLost, NoRoom
from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import Room
from cos_ray.domain.passivation import NodeId, ProcessLimits
from cos_ray.placement.process_coordinator import ANSWER_WITHIN, ProcessCoordinator
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.catalogue import ACTIVATIONS, LIVE_ENTITIES, PASSIVATIONS
from cos_ray.telemetry.logs import LogSettings
from cos_ray.transport.silence import LOOKS, falls_silent

logger = logging.getLogger(__name__)

ANSWERS_WITHIN = ANSWER_WITHIN + 3.0
"""Seconds after which a coordinator that says nothing may hang."""

ROOM_TOLD_WITHIN = 2.0
"""Seconds in which a coordinator that does not hang tells what room there is."""

STARTS_WITHIN = 60
"""Looks, a second apart, in which a coordinator that has not answered yet has to."""

READY_WITHIN = 60.0
"""Seconds that a service which starts waits for its coordinator to have everything ready."""

AGAIN_AFTER = 0.1
"""Seconds before a coordinator that was lost is asked again."""


@dataclass(frozen=True, slots=True)
class ProcessCoordinatorSpec:
    """What it takes to start the coordinator."""

    namespace: str
    build: EntityBuilder
    journal: JournalSpec
    """Starts each node's journal actor, ahead of the node's first entity."""
    limits: ProcessLimits
    logs: LogSettings | None = None
    tls: TlsFiles | None = None
    """How commands travel to entities from other machines; None: in plain text."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=20_000)
class ProcessCoordinatorActor:
    """Hosts the one `ProcessCoordinator`; errors travel as values, for Ray would dress them up."""

    def __init__(self, spec: ProcessCoordinatorSpec) -> None:
        if spec.logs is not None:
            spec.logs.apply()
        processes = EntityProcesses(spec.namespace, spec.build, spec.journal, spec.tls)
        self._coordinator = ProcessCoordinator(processes, spec.limits, SystemClock())
        coordinator, meters = self._coordinator, exported_meters()
        meters.watch(lambda: len(coordinator.live), LIVE_ENTITIES)
        meters.watch(lambda: coordinator.activations, ACTIVATIONS)
        meters.watch(lambda: coordinator.passivations, PASSIVATIONS)
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._coordinator.run())
        self._running.add_done_callback(_end)

    async def admit(
        self, entity_id: EntityId, only_if_room: bool = False
    ) -> ActorHandle[Any] | EntityLost | NoRoom | None:
        """Like `ProcessCoordinator.admit`."""
        try:
            return await self._coordinator.admit(entity_id, only_if_room)
        except (EntityLost, NoRoom) as error:
            return error

    async def ready(self) -> None:
        """Like `ProcessCoordinator.ready`."""
        await self._coordinator.ready()

    async def counts(self) -> Mapping[NodeId, int]:
        """How many entities are awake on each node."""
        return self._coordinator.counts()

    async def room(self) -> tuple[Room, list[EntityId]]:
        """Like `ProcessCoordinator.room`, and who has a process or is given one."""
        return self._coordinator.room(), list(self._coordinator.live)

    async def used(self, entity_ids: Sequence[EntityId]) -> None:
        """Like `ProcessCoordinator.used`."""
        self._coordinator.used(entity_ids)

    async def suspect(self, entity_ids: Sequence[EntityId]) -> None:
        """Like `ProcessCoordinator.suspect`."""
        self._coordinator.suspect(entity_ids)

    async def ping(self) -> None:
        """Answer, which shows that this process does not hang."""


def _end(running: asyncio.Task[None]) -> None:
    """A coordinator that no longer works must not look as if it did: Ray starts it anew."""
    if not running.cancelled():
        logger.error("entity coordinator ended", exc_info=running.exception())
        os._exit(1)


class FoundProcessCoordinator:
    """The coordinator as an ingress process sees it: found, or started if there is none."""

    def __init__(self, spec: ProcessCoordinatorSpec) -> None:
        self._spec = spec
        self._actor: asyncio.Future[ActorHandle[Any]] | None = None
        self._has_answered = False
        self._looking: asyncio.Task[None] | None = None

    async def admit(self, entity_id: EntityId, only_if_room: bool = False) -> ActorHandle[Any] | None:
        """Like `ProcessCoordinator.admit`; a coordinator that is lost, or hangs, is told by None, too."""
        finding = self._finding()
        try:
            actor = await asyncio.shield(finding)
            answer = await asyncio.wait_for(_admitted(actor, entity_id, only_if_room), ANSWERS_WITHIN)
            self._has_answered = True
        except asyncio.TimeoutError:
            self._look_into(finding)
            return None
        except RayError as error:
            logger.info("entity coordinator lost", extra={"reason": repr(error)})
            self._lose(finding)
            await asyncio.sleep(AGAIN_AFTER)
            return None
        if isinstance(answer, EntityLost | NoRoom):
            raise answer
        return answer

    async def room(self) -> tuple[Room, list[EntityId]]:
        """`ProcessCoordinator.room`, and who has a process. Raises EntityLost when there is no answer."""
        finding = self._finding()
        try:
            actor = await asyncio.shield(finding)
            told = await asyncio.wait_for(_room(actor), ROOM_TOLD_WITHIN)
            self._has_answered = True
        except asyncio.TimeoutError:
            self._look_into(finding)
            raise EntityLost("the coordinator of entities' processes does not answer") from None
        except RayError as error:
            self._lose(finding)
            raise EntityLost("the coordinator of entities' processes is lost") from error
        return told

    def prepare(self) -> None:
        """Start it if need be, and do not wait for it."""
        self._finding()

    def used(self, entity_ids: Sequence[EntityId]) -> None:
        """Like `ProcessCoordinator.used`; not waited for."""
        if (actor := self._found()) is not None:
            actor.used.remote(entity_ids)

    def suspect(self, entity_ids: Sequence[EntityId]) -> None:
        """Like `ProcessCoordinator.suspect`; not waited for."""
        if (actor := self._found()) is not None:
            actor.suspect.remote(entity_ids)

    def _found(self) -> ActorHandle[Any] | None:
        finding = self._actor
        is_found = finding is not None and finding.done() and finding.exception() is None
        return finding.result() if finding is not None and is_found else None

    def _lose(self, finding: asyncio.Future[ActorHandle[Any]]) -> None:
        if self._actor is finding:
            self._actor, self._has_answered = None, False

    def _look_into(self, finding: asyncio.Future[ActorHandle[Any]]) -> None:
        """Replace this coordinator if it hangs; its replacement counts who is there."""
        if self._actor is finding and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._replace_if_silent(finding))

    async def _replace_if_silent(self, finding: asyncio.Future[ActorHandle[Any]]) -> None:
        actor = finding.result()
        # One that has never answered may be starting still.
        looks = LOOKS if self._has_answered else STARTS_WITHIN
        try:
            if not await falls_silent(_pinged(actor), asyncio.sleep, looks):
                return
            logger.warning("entity coordinator does not answer; it is replaced")
            # This very actor: of several who find it silent, none ends the one that takes its place.
            await asyncio.to_thread(ray.kill, actor)
        except RayError as error:
            logger.info("entity coordinator lost", extra={"reason": repr(error)})
        self._lose(finding)

    def _finding(self) -> asyncio.Future[ActorHandle[Any]]:
        if self._actor is None:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            self._actor = asyncio.ensure_future(asyncio.to_thread(_found_or_started, self._spec))
        return self._actor


async def _pinged(actor: ActorHandle[Any]) -> None:
    await actor.ping.remote()


async def _room(actor: ActorHandle[Any]) -> tuple[Room, list[EntityId]]:
    told: tuple[Room, list[EntityId]] = await actor.room.remote()
    return told


async def _admitted(
    actor: ActorHandle[Any], entity_id: EntityId, only_if_room: bool
) -> ActorHandle[Any] | EntityLost | NoRoom | None:
    answer: ActorHandle[Any] | EntityLost | NoRoom | None = await actor.admit.remote(entity_id, only_if_room)
    return answer


class ProcessCoordinatorProcess:
    """The coordinator as who starts the service sees it."""

    def __init__(self, spec: ProcessCoordinatorSpec) -> None:
        self._spec = spec

    def begin(self) -> None:
        """Start it, if it does not run; returns at once. It then prepares the nodes."""
        with contextlib.suppress(RayError):  # by `wait_until_ready` or the first command
            _found_or_started(self._spec)

    def wait_until_ready(self) -> None:
        """Return when the first commands need wait for one process each, and these are warm."""
        try:
            ray.get(_found_or_started(self._spec).ready.remote(), timeout=READY_WITHIN)
        except RayError as error:
            # Nothing that the first commands would not put right, if slowly.
            logger.warning("the first commands may be slow", extra={"reason": repr(error)})


def _found_or_started(spec: ProcessCoordinatorSpec) -> ActorHandle[Any]:
    try:
        handle: ActorHandle[Any] = ProcessCoordinatorActor.options(  # type: ignore[attr-defined]
            name=PROCESS_COORDINATOR, namespace=spec.namespace, lifetime="detached", get_if_exists=True
        ).remote(spec)
    except ValueError as error:
        # Ray's word for a name that was taken and given up in the same moment.
        raise RayActorError(error_msg=str(error)) from error
    return handle
