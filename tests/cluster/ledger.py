"""
Handlers in the test's own process, and clients whose every call is written down.

A command says how many events it wants and names them, so that no two events are alike; the
state counts them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeAlias

import grpc.aio
from google.protobuf.any_pb2 import Any

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import CommandId, EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import (
    Accepted,
    Command,
    EntityState,
    EventEnvelope,
    Meta,
    Packed,
    Refused,
    Reply,
)
from cos_ray.protocol.codec import pack
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2_grpc import (
    ReadSideHandlerServiceServicer,
    add_ReadSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.testing.history import Call, Ending
from cos_ray.testing.read_handlers import RecordingReadHandler
from tests.support.journal import packed, until

_MAYBE = {Code.ABORTED, Code.DEADLINE_EXCEEDED}
"""How a command ends whose outcome is unknown. UNAVAILABLE is not among them: nothing was stored then."""

_HONEST = {*_MAYBE, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED}
"""How a command may end when something is lost under it."""

_serials = count(1)

Process: TypeAlias = Callable[[Command], Awaitable[Reply]]
State: TypeAlias = Callable[[EntityId], Awaitable[EntityState]]


class LedgerHandler(WriteSideHandlerServiceServicer, ReadSideHandlerServiceServicer):
    """Both handlers. `before` is awaited with each command, and may hold it up."""

    def __init__(self) -> None:
        self.port = 0
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.commands: list[str] = []
        """Every command that was handed over, in order."""
        self.deliveries = RecordingReadHandler()
        self._peers: set[str] = set()
        self._stop: Callable[[float], Awaitable[None]] | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_WriteSideHandlerServiceServicer_to_server(self, server)
        add_ReadSideHandlerServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stop = server.stop

    async def stop(self) -> None:
        """Stop listening, whatever is in progress."""
        if self._stop is not None:
            stop, self._stop = self._stop, None
            await stop(0)

    async def HandleCommand(
        self, request: HandleCommandRequest, context: grpc.aio.ServicerContext
    ) -> HandleCommandResponse:
        """As many events as the command says."""
        command = request.command.value.decode()
        self.commands.append(command)
        if self.before is not None:
            await self.before(command)
        return HandleCommandResponse(events=[Any.FromString(event) for event in events_of(command)])

    async def HandleEvent(
        self, request: HandleEventRequest, context: grpc.aio.ServicerContext
    ) -> HandleEventResponse:
        """One more; the count has to agree with the revision."""
        counted = int(request.prior_state.value or b"0") + 1
        if counted != request.event_meta.revision_number:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"{counted}, and not as the metadata says")
        return HandleEventResponse(resulting_state=Any.FromString(packed(str(counted))))

    async def HandleReadSide(
        self, request: HandleReadSideRequest, context: grpc.aio.ServicerContext
    ) -> HandleReadSideResponse:
        """Write the delivery down."""
        if context.peer() not in self._peers:
            # Another connection: another process of the read side.
            self._peers.add(context.peer())
            self.deliveries.begin_life()
        meta = Meta(EntityId(request.meta.entity_id), Revision(request.meta.revision_number))
        envelope = EventEnvelope(pack(request.event), pack(request.state), meta, meta.revision)
        tag = dict(context.invocation_metadata())["x-cos-event-tag"]
        await self.deliveries.handle(ReadSideId(request.read_side_id), Shard(int(tag)), envelope)
        return HandleReadSideResponse(successful=True)


def events_of(command: str) -> tuple[Packed, ...]:
    """What a command leads to."""
    name, _, events = command.partition(":")
    return tuple(packed(f"{name}/{number}") for number in range(int(events)))


def new_command(entity_id: EntityId, events: int = 1, budget: float = 10.0) -> Command:
    """A command that no other is like."""
    serial = next(_serials)
    return Command(
        entity_id, packed(f"op{serial}:{events}"), CommandId(f"test-{serial}"), budget, sent_at=time.time()
    )


def text_of(command: Command) -> str:
    """What the handler sees of it."""
    return Any.FromString(command.payload).value.decode()


class Clients:
    """Clients of one way to the entities: what they ask and are told is in `calls`."""

    def __init__(self, process: Process, state: State) -> None:
        self._process, self._state = process, state
        self.calls: list[Call] = []
        self.dishonest: list[Refused] = []
        """Answers with a code that no loss explains."""
        self._stop = asyncio.Event()

    async def process(self, command: Command) -> Call:
        """Send one command."""
        began = time.monotonic()
        reply = await self._process(command)
        events = events_of(text_of(command))
        ended = time.monotonic()
        if isinstance(reply, Accepted):
            state = reply.state
            answer = (Ending.DONE, state.meta.revision, state.state)
        else:
            assert isinstance(reply, Refused)
            if reply.status.code not in _HONEST:
                self.dishonest.append(reply)
            answer = (Ending.UNKNOWN if reply.status.code in _MAYBE else Ending.DENIED, Revision(0), None)
        call = Call(command.entity_id, events, began, ended, *answer)
        self.calls.append(call)
        return call

    async def look(self, entity_id: EntityId) -> None:
        """Ask for the state."""
        began = time.monotonic()
        state = await self._state(entity_id)
        done = (Ending.DONE, state.meta.revision, state.state)
        self.calls.append(Call(entity_id, (), began, time.monotonic(), *done))

    async def run(self, entity_ids: Iterable[EntityId], chance: random.Random) -> None:
        """Go on sending commands and questions, one at a time, until told to stop."""
        entities = list(entity_ids)
        while not self._stop.is_set():
            entity_id = chance.choice(entities)
            if chance.random() < 0.1:
                await self.look(entity_id)
            else:
                await self.process(new_command(entity_id, chance.choice([0, 1, 1, 1, 2, 3])))

    def stop(self) -> None:
        """Let all that run end, each after the command it waits for."""
        self._stop.set()

    def done(self, entity_id: EntityId | None = None) -> int:
        """How many commands were acknowledged so far."""
        return sum(
            call.ending is Ending.DONE and bool(call.events) and entity_id in (None, call.entity_id)
            for call in self.calls
        )

    async def go_on(self, further: int, entity_id: EntityId | None = None) -> None:
        """Return when so many more commands have been acknowledged."""
        wanted = self.done(entity_id) + further

        async def enough() -> bool:
            return self.done(entity_id) >= wanted

        # On a busy machine it takes seconds to start what was lost.
        await until(enough, 60.0)
