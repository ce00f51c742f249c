"""
The way to one entity's actor: by RPC, and by Ray calls where no connection can be made.

A network may let nothing through but Ray's own ports. Between machines that are to speak TLS, Ray calls are
not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster.endpoints import Caller, Dialer, EndpointAddress
from cos_ray.domain.errors import EntityLost, EntityNotReached
from cos_ray.domain.messages import Command, Reply, TryElsewhere
from cos_ray.transport.rpc import ConnectionLost, NotSent, RpcConnection

logger = logging.getLogger(__name__)

UP_WITHIN = 60.0
"""Seconds an entity's process may take to start; then it is looked for anew."""


class EntityConnection:
    """Hands commands to one actor. Every failure is an EntityLost."""

    def __init__(self, actor: ActorHandle[Any], connection: RpcConnection | None) -> None:
        self._actor = actor
        self._connection = connection

    @classmethod
    async def to(cls, actor: ActorHandle[Any], dialer: Dialer) -> EntityConnection:
        """Open, when the actor has started. Raises EntityLost."""
        try:
            endpoint = await asyncio.wait_for(_endpoint(actor, dialer.caller()), UP_WITHIN)
        except (RayError, asyncio.TimeoutError) as error:
            raise EntityLost(first_line(error)) from error
        try:
            return cls(actor, await dialer.dial(endpoint))
        except ConnectionLost as error:
            if not dialer.allows_ray_calls(endpoint, error):
                raise EntityLost(first_line(error)) from error
            logger.warning("entity is reached by Ray calls only, slowly", extra={"reason": str(error)})
            return cls(actor, None)

    async def ping(self) -> None:
        """Return when the entity's process answers, whatever command it is at. Raises EntityLost."""
        try:
            await self._actor.pid.remote()
        except RayError as error:
            raise EntityLost(first_line(error)) from error

    async def ready(self) -> None:
        """Return when the entity's first command need not wait for anything. Raises EntityLost."""
        try:
            await self._actor.ready.remote()
        except RayError as error:
            raise EntityLost(first_line(error)) from error

    @property
    def has_left(self) -> bool:
        """Whether the entity's process has taken leave: it ends in good order."""
        return self._connection is not None and self._connection.has_left

    def cut(self) -> None:
        """Give up what is under way: the process is gone, though its end of the connection may be open."""
        if self._connection is not None:
            self._connection.cut()

    def when_cut(self, tell: Callable[[], None]) -> None:
        """Call this when the entity's process is known to be gone, or to be going."""
        if self._connection is not None:
            self._connection.when_cut(tell)

    async def process(self, command: Command) -> Reply:
        """Run the command; withdraw it when no one waits for it any more. Raises EntityLost."""
        try:
            reply: Reply
            if self._connection is not None:
                reply = await self._connection.ask("process", command)
            else:
                reply = await self._actor.process.remote(command)
        except NotSent as error:
            raise EntityNotReached(first_line(error)) from error
        except (ConnectionLost, RayError) as error:
            raise EntityLost(first_line(error)) from error
        except asyncio.CancelledError:
            # Unless it is being appended already, it need not be run.
            if self._connection is not None:
                self._connection.tell("withdraw", command.command_id)
            else:
                self._actor.withdraw.remote(command.command_id)
            raise
        if isinstance(reply, TryElsewhere):
            # What gives commands back is to end, and cannot do so by itself.
            self._actor.end.remote()
        return reply


async def _endpoint(actor: ActorHandle[Any], caller: Caller) -> EndpointAddress:
    endpoint: EndpointAddress = await actor.endpoint.remote(caller)
    return endpoint


def first_line(error: Exception) -> str:
    """What it says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
