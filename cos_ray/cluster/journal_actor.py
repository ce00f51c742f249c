"""
A node's way to the journal: one actor with a bounded number of connections.

Whatever its entities append at the same time travels to Postgres together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cos_ray.cluster.endpoints import Dialer, Endpoint, LocalAddress
from cos_ray.cluster.metrics_export import take_report
from cos_ray.cluster.names import journal_actor_name
from cos_ray.cluster.read_side_notifier import ReadSideNotifier
from cos_ray.domain.errors import CosError, JournalUnavailable, OutcomeUnknown
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, ReadSideId
from cos_ray.domain.messages import Append, EventEnvelope, NewestRevision, Remembered
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.ports import Journal, Publisher
from cos_ray.telemetry.meters import Readings
from cos_ray.transport.rpc import ConnectionLost, ConnectionSilent, RpcConnection
from cos_ray.transport.silence import LOOKS, falls_silent

logger = logging.getLogger(__name__)

SETTLING_TIME = 10.0
"""Seconds in which an append that got lost with the journal actor is asked for again."""

ANSWER_WITHIN = 8.0
"""Seconds in which the journal actor answers, longer than Postgres may take; then it is taken for lost."""

OPEN_WITHIN = 30.0
"""Seconds that the journal actor may take to be found, and so many again to start and tell where it is."""


class OwnedJournal(Journal, Protocol):
    """A journal that its process has to close."""

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class JournalSpec:
    """What it takes to start a node's journal actor."""

    build: Callable[[], Awaitable[OwnedJournal]]
    read_sides: tuple[ReadSideId, ...] = ()
    """Whom to tell about new events."""
    read_side_actors: int = 1
    """How many processes each of them has."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=4000)
class JournalActor:
    """Hosts a node's journal writer; errors travel as values, for Ray would dress them up."""

    def __init__(self, namespace: str, spec: JournalSpec) -> None:
        self._build = spec.build
        self._publisher: Publisher = ReadSideNotifier(namespace, spec.read_sides, spec.read_side_actors)
        self._opening: asyncio.Future[OwnedJournal] | None = None
        names = ("append", "newest", "standing", "stored_by", "keys", "remembered", "precedent", "report")
        self._endpoint = Endpoint({name: getattr(self, name) for name in names})

    async def endpoint(self) -> LocalAddress:
        """Where everything but `endpoint` and `close` is called at a fraction of the cost."""
        return await self._endpoint.near()

    async def open(self) -> CosError | None:
        """Return when the journal is open, or why it cannot be."""
        answer: CosError | None = await self._answer(_nothing)
        return answer

    async def append(self, append: Append) -> Offset | CosError:
        """Like `Journal.append`; then the read sides are told."""
        answer: Offset | CosError = await self._answer(lambda journal: journal.append(append))
        if append.envelopes and not isinstance(answer, CosError):
            self._publisher.appended([append.shard])
        return answer

    async def newest(self, entity_id: EntityId) -> EventEnvelope | CosError | None:
        """Like `Journal.newest`."""
        return await self._answer(lambda journal: journal.newest(entity_id))

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision | CosError:
        """Like `Journal.standing`."""
        return await self._answer(lambda journal: journal.standing(entity_id, key))

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | CosError | None:
        """Like `Journal.stored_by`."""
        return await self._answer(lambda journal: journal.stored_by(entity_id, command_id))

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey] | CosError:
        """Like `Journal.keys`."""
        return await self._answer(lambda journal: journal.keys(entity_id, limit))

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | CosError | None:
        """Like `Journal.remembered`."""
        return await self._answer(lambda journal: journal.remembered(entity_id, key))

    async def precedent(self, change: TypeChange) -> Precedent | CosError:
        """Like `Journal.precedent`."""
        answer: Precedent | CosError = await self._answer(lambda journal: journal.precedent(change))
        return answer

    async def report(self, origin: str, readings: Readings) -> None:
        """Count what an entity's process has counted."""
        take_report(origin, readings)

    async def close(self) -> None:
        """Let go of connections."""
        if self._opening is not None:
            await (await self._opening).close()

    async def _answer(self, ask: Callable[[OwnedJournal], Awaitable[Any]]) -> Any:
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._build())
        try:
            return await ask(await asyncio.shield(self._opening))
        except CosError as error:
            return error


class NodeJournal:
    """The journal as an entity's process sees it: through its node's journal actor."""

    def __init__(self, namespace: str, spec: JournalSpec) -> None:
        self._namespace = namespace
        self._spec = spec
        self._connection: asyncio.Future[RpcConnection] | None = None
        self._actor: ActorHandle[Any] | None = None
        """Whom the connection leads to."""
        self._silent: ActorHandle[Any] | None = None
        """Who did not answer when last asked."""

    async def append(self, append: Append) -> Offset:
        """Like `Journal.append`; an append that got lost is asked for again until it is settled."""
        deadline = asyncio.get_running_loop().time() + SETTLING_TIME
        maybe_stored = False
        while True:
            try:
                # The same append again stores nothing twice: the journal knows it by its bytes.
                offset: Offset = await self._ask("append", append)
                return offset
            except ConnectionLost as error:
                logger.info("journal actor lost", extra={"reason": str(error)})
                maybe_stored = True
            except JournalUnavailable:
                if not maybe_stored:
                    raise
            if asyncio.get_running_loop().time() > deadline:
                raise OutcomeUnknown
            await asyncio.sleep(0.05)

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """Like `Journal.newest`."""
        envelope: EventEnvelope | None = await self._question("newest", entity_id)
        return envelope

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """Like `Journal.standing`."""
        standing: NewestRevision = await self._question("standing", entity_id, key)
        return standing

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """Like `Journal.stored_by`."""
        envelope: EventEnvelope | None = await self._question("stored_by", entity_id, command_id)
        return envelope

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """Like `Journal.keys`."""
        keys: Collection[IdempotencyKey] = await self._question("keys", entity_id, limit)
        return keys

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """Like `Journal.remembered`."""
        remembered: Remembered | None = await self._question("remembered", entity_id, key)
        return remembered

    async def precedent(self, change: TypeChange) -> Precedent:
        """Like `Journal.precedent`."""
        precedent: Precedent = await self._question("precedent", change)
        return precedent

    async def report(self, origin: str, readings: Readings) -> None:
        """Hand on what this process has counted. Raises ConnectionLost when it may be lost."""
        await self._ask("report", origin, readings)

    async def _question(self, method: str, *arguments: object) -> Any:
        deadline = asyncio.get_running_loop().time() + SETTLING_TIME
        while True:
            try:
                return await self._ask(method, *arguments)
            except ConnectionLost as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise JournalUnavailable("the node's journal actor is gone") from error
            await asyncio.sleep(0.05)

    async def _ask(self, method: str, *arguments: object) -> Any:
        opening = self._connection
        if opening is None or (opening.done() and (opening.exception() or opening.result().is_cut)):
            opening = self._connection = asyncio.ensure_future(self._open())
        # Shielded: who gives up must not take the connection from the others.
        connection = await asyncio.shield(opening)
        try:
            answer = await connection.ask(method, *arguments, within=ANSWER_WITHIN)
        except ConnectionSilent:
            # The database may be what is slow; whether the actor hangs shows when its endpoint is asked for.
            self._silent = self._actor
            raise
        if isinstance(answer, CosError):
            raise answer
        return answer

    async def _open(self) -> RpcConnection:
        try:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            actor = await asyncio.wait_for(asyncio.to_thread(self._find_or_start), OPEN_WITHIN)
            endpoint = await self._endpoint_of(actor)
        except (RayError, asyncio.TimeoutError) as error:
            raise ConnectionLost(repr(error)) from error
        self._actor = actor
        return await Dialer().dial(endpoint)

    async def _endpoint_of(self, actor: ActorHandle[Any]) -> LocalAddress:
        """Where the actor's endpoint is; ends the actor if it hangs. Raises ConnectionLost."""
        opening = asyncio.ensure_future(_endpoint(actor))
        # By its id: another may have taken the place of the one that was silent, and be starting still.
        was_silent = self._silent is not None and self._silent._actor_id == actor._actor_id
        if await falls_silent(opening, asyncio.sleep, LOOKS if was_silent else int(OPEN_WITHIN)):
            logger.warning("the node's journal actor does not answer; it is replaced")
            await asyncio.to_thread(ray.kill, actor)
            raise ConnectionLost("the node's journal actor did not answer")
        return opening.result()

    def _find_or_start(self) -> ActorHandle[Any]:
        return found_or_started(self._namespace, self._spec, ray.get_runtime_context().get_node_id())


def found_or_started(namespace: str, spec: JournalSpec, node_id: str) -> ActorHandle[Any]:
    """The node's journal actor; asks Ray's head node and blocks meanwhile. Raises RayError."""
    try:
        handle: ActorHandle[Any] = JournalActor.options(  # type: ignore[attr-defined]
            name=journal_actor_name(node_id),
            namespace=namespace,
            lifetime="detached",
            get_if_exists=True,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        ).remote(namespace, spec)
    except ValueError as error:
        # Ray's word for a name that was taken and given up in the same moment.
        raise RayActorError(error_msg=str(error)) from error
    return handle


async def _nothing(journal: OwnedJournal) -> None:
    """Asks it nothing."""


async def _endpoint(actor: ActorHandle[Any]) -> LocalAddress:
    endpoint: LocalAddress = await actor.endpoint.remote()
    return endpoint
