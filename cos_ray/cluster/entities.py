"""Dedicated placement: the way to an entity that has an actor of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from cos_ray.cluster.entity_actor import EntityActor, EntityBuilder
from cos_ray.cluster.names import entity_actor_name
from cos_ray.domain.errors import EntityLost, EntitySilent
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command, Reply

GRACE = 0.25
"""Seconds that an entity's own word on a late command may take to get here."""


class DedicatedEntities:
    """Finds each entity's actor by name and starts it if there is none."""

    def __init__(self, namespace: str, build: EntityBuilder) -> None:
        self._namespace = namespace
        self._build = build
        self._actors: dict[EntityId, asyncio.Future[ActorHandle[Any]]] = {}

    async def ask(self, command: Command) -> Reply:
        """Hand the command to the entity's actor. Raises EntityLost and EntitySilent."""
        try:
            return await asyncio.wait_for(self._ask(command), command.budget + GRACE)
        except asyncio.TimeoutError:
            raise EntitySilent(command.entity_id) from None

    async def _ask(self, command: Command) -> Reply:
        finding = self._finding(command.entity_id)
        try:
            # Shielded: others wait for the same actor.
            actor = await asyncio.shield(finding)
            return await _process(actor, command)
        except RayError as error:
            self._forget(command.entity_id, finding)
            raise EntityLost(_first_line(error)) from error
        except Exception:
            # Not foreseen; the next command at least looks anew.
            self._forget(command.entity_id, finding)
            raise

    def _forget(self, entity_id: EntityId, finding: asyncio.Future[ActorHandle[Any]]) -> None:
        if self._actors.get(entity_id) is finding:
            del self._actors[entity_id]

    def _finding(self, entity_id: EntityId) -> asyncio.Future[ActorHandle[Any]]:
        """The entity's handle, now or soon; however many ask, one actor is started."""
        finding = self._actors.get(entity_id)
        if finding is None:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            finding = asyncio.ensure_future(asyncio.to_thread(self._find_or_start, entity_id))
            self._actors[entity_id] = finding
        return finding

    def _find_or_start(self, entity_id: EntityId) -> ActorHandle[Any]:
        try:
            handle: ActorHandle[Any] = EntityActor.options(  # type: ignore[attr-defined]
                name=entity_actor_name(entity_id),
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
            ).remote(entity_id, self._build)
        except ValueError as error:
            # Ray's word for a name that was taken and given up in the same moment.
            raise RayActorError(error_msg=str(error)) from error
        return handle


async def _process(actor: ActorHandle[Any], command: Command) -> Reply:
    call = actor.process.remote(command)
    try:
        reply: Reply = await call
        return reply
    except asyncio.CancelledError:
        # No one waits for it any more: if it has not begun, it need not.
        actor.withdraw.remote(command.command_id)
        raise


def _first_line(error: RayError) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
