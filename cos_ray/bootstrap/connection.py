"""
A service from within its Ray cluster: any Ray program sends commands straight to entities' actors.

The same as over gRPC in all that matters, for it is the same way, less the endpoint: a command is sent
again when a process is lost under it, an idempotency key counts, and a state is that after every
acknowledged command.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.ingress import entities_of
from cos_ray.cluster import service_registry
from cos_ray.cluster.journal_actor import NodeJournal
from cos_ray.cluster.names import namespace_of
from cos_ray.domain.errors import CallFailed, Code, JournalUnavailable, StartFailed, Status
from cos_ray.domain.ids import (
    CommandId,
    EntityId,
    IdempotencyKey,
    Revision,
    fault_of_entity_id,
    fault_of_idempotency_key,
)
from cos_ray.domain.messages import Accepted, Command, EntityState, Header, Refused
from cos_ray.domain.texts import is_encodable, said_by
from cos_ray.protocol.codec import pack
from cos_ray.system.clock import SystemClock
from cos_ray.writeside.router import Router

logger = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds after which a call looks whether the service has moved to another release."""


@dataclass(frozen=True, slots=True)
class WayIn:
    """What a program of the cluster must know of a service."""

    spec: EntitySpec
    command_timeout: float
    """Seconds for a command, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class StateOfEntity:
    """An entity's state as its application packed it, and its revision."""

    state: AnyMessage
    revision: int


class Connection:
    """One service; belongs to the event loop it is used in first."""

    def __init__(self, service: str, way_in: WayIn) -> None:
        self._service = service
        self._way_in = way_in
        self._looked_at = time.monotonic()
        self._origin = uuid.uuid4().hex
        self._serial = itertools.count(1)
        self._router: Router | None = None

    async def process(
        self,
        entity_id: str,
        command: Message,
        *,
        key: str | None = None,
        expected_revision: int | None = None,
        headers: Sequence[tuple[str, str | bytes]] = (),
        timeout: float | None = None,
    ) -> StateOfEntity:
        """
        Run a command; the state it led to, once that is stored. Raises CallFailed.

        `command` is packed unless it is an `Any`; `key`: an idempotency key; `expected_revision`: the
        revision the entity must be at, 0: it must not exist; `headers` go to the write handler and are
        stored with the events; `timeout` in seconds, unset: COS_COMMAND_HANDLER_TIMEOUT.
        """
        _insist(fault_of_entity_id(entity_id))
        _insist(None if key is None else fault_of_idempotency_key(key))
        told = tuple(_header(name, value) for name, value in headers)
        reply = await (await self._routed()).process(
            Command(
                entity_id=EntityId(entity_id),
                payload=pack(_any(command)),
                command_id=CommandId(f"{self._origin}-{next(self._serial)}"),
                budget=self._way_in.command_timeout if timeout is None else timeout,
                propagated=told,
                persisted=told,
                key=None if key is None else IdempotencyKey(key),
                expected_revision=None if expected_revision is None else Revision(expected_revision),
                sent_at=time.time(),
            )
        )
        match reply:
            case Accepted(state):
                return _shown(state)
            case Refused(status):
                raise CallFailed(status)
            case _:
                raise AssertionError("the router settles this itself")

    async def state(self, entity_id: str) -> StateOfEntity:
        """The state after every acknowledged command. Raises CallFailed, with NOT_FOUND without events."""
        _insist(fault_of_entity_id(entity_id))
        try:
            state = await (await self._routed()).state(EntityId(entity_id))
        except JournalUnavailable:
            raise CallFailed(Status(Code.UNAVAILABLE, "the journal is unavailable")) from None
        if not state.exists:
            raise CallFailed(Status(Code.NOT_FOUND))
        return _shown(state)

    async def _routed(self) -> Router:
        if time.monotonic() - self._looked_at > LOOK_EVERY:
            self._looked_at = time.monotonic()
            await self._look_again()
        # Made in the loop that uses it, on first use.
        if self._router is None:
            spec = self._way_in.spec
            journal = NodeJournal(spec.namespace, spec.journal)
            self._router = Router(entities_of(spec), journal, SystemClock())
        return self._router

    async def _look_again(self) -> None:
        """Go where the service's newest release is: what there was of the last one is ended."""
        try:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            found = await asyncio.to_thread(service_registry.look_up, namespace_of(self._service))
        except Exception as error:  # noqa: BLE001 - see below
            # The head is away, and errors of this part of Ray have no common kind.
            logger.info("where the service is cannot be told now", extra={"reason": repr(error)})
            return
        if found is None:
            raise CallFailed(
                Status(Code.UNAVAILABLE, f"no service {self._service!r} runs in this Ray cluster")
            )
        way_in: WayIn = found()
        if way_in.spec.namespace != self._way_in.spec.namespace:
            self._way_in, self._router = way_in, None


def connect(service: str = "chiefofstate") -> Connection:
    """
    The service of this name (COS_SERVICE_NAME) in the Ray cluster this program is connected to.

    Raises StartFailed if this program is connected to none, or no such service runs in it.
    """
    if not service_registry.is_connected():
        raise StartFailed("this program is not connected to a Ray cluster: call ray.init(address=...) first")
    way_in = service_registry.look_up(namespace_of(service))
    if way_in is None:
        raise StartFailed(f"no service {service!r} runs in this Ray cluster")
    return Connection(service, way_in())


def _any(message: Message) -> AnyMessage:
    if isinstance(message, AnyMessage):
        return message
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _shown(state: EntityState) -> StateOfEntity:
    return StateOfEntity(AnyMessage.FromString(state.state), state.meta.revision)


def _header(name: object, value: object) -> Header:
    """What a program may have given as anything. Raises CallFailed for what no endpoint could send."""
    if not isinstance(name, str) or not isinstance(value, str | bytes):
        raise CallFailed(Status(Code.INVALID_ARGUMENT, f"header {said_by(name)} is neither text nor bytes"))
    for text in (name, value):
        if isinstance(text, str) and not is_encodable(text):
            problem = "holds half of a surrogate pair, which is no character"
            raise CallFailed(Status(Code.INVALID_ARGUMENT, f"header {said_by(name)} {problem}"))
    return Header(name, value)


def _insist(fault: str | None) -> None:
    if fault is not None:
        raise CallFailed(Status(Code.INVALID_ARGUMENT, fault))
