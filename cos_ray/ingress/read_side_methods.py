"""
What operators call about read sides: Chief of State's manager, and what we add to it.

A mixin of `Ingress`, for Serve wants all methods on one class. What is done is in
`cos_ray.readside.management`; here are messages and status codes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timezone
from typing import TypeVar

from google.protobuf.message import Message

from cos_ray.domain.errors import (
    Code,
    CosError,
    JournalUnavailable,
    ReadSideUnavailable,
    Status,
    UnknownReadSide,
    WrongShard,
)
from cos_ray.domain.ids import fault_of_entity_id
from cos_ray.ingress.history_methods import LARGEST_REPLY
from cos_ray.ingress.read_side_messages import error_status, letter_to_pb, status_to_pb
from cos_ray.ingress.status import ReplyContext, refuse
from cos_ray.protocol.pb.chief_of_state.v1 import manager_pb2 as manager
from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import ReadSideOffset
from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2 as pb
from cos_ray.readside.management import ReadSideManagement

logger = logging.getLogger(__name__)

READ_SIDE_SERVICES = ("chief_of_state.v1.ReadSideManagerService", "cos_ray.v1.ReadSideService")
READ_SIDE_SERVICER_FUNCTIONS = (
    "cos_ray.protocol.pb.chief_of_state.v1.manager_pb2_grpc.add_ReadSideManagerServiceServicer_to_server",
    "cos_ray.protocol.pb.cos_ray.v1.readsides_pb2_grpc.add_ReadSideServiceServicer_to_server",
)

LISTED, MOST_LISTED = 100, 1_000
"""How many dead letters are listed, unless told otherwise, and at most."""

_Reply = TypeVar("_Reply", bound=Message)


class ReadSideMethods:
    """The RPCs about read sides."""

    def _read_side_management(self) -> ReadSideManagement:
        raise NotImplementedError

    async def GetLatestOffset(
        self, request: manager.GetLatestOffsetRequest, grpc_context: ReplyContext
    ) -> manager.GetLatestOffsetResponse:
        """One entry for each shard, 0 where nobody knows."""

        async def answer() -> manager.GetLatestOffsetResponse:
            offsets = await self._read_side_management().offsets(request.read_side_id)
            entries = [ReadSideOffset(cluster_shard_number=s, offset=o) for s, o in sorted(offsets.items())]
            return manager.GetLatestOffsetResponse(offsets=entries)

        return await _answered(grpc_context, answer, manager.GetLatestOffsetResponse)

    async def GetLatestOffsetByShard(
        self, request: manager.GetLatestOffsetByShardRequest, grpc_context: ReplyContext
    ) -> manager.GetLatestOffsetByShardResponse:
        """The offset of one shard."""

        async def answer() -> manager.GetLatestOffsetByShardResponse:
            number = request.cluster_shard_number
            ((shard, offset),) = (
                await self._read_side_management().offsets(request.read_side_id, number)
            ).items()
            entry = ReadSideOffset(cluster_shard_number=shard, offset=offset)
            return manager.GetLatestOffsetByShardResponse(offsets=entry)

        return await _answered(grpc_context, answer, manager.GetLatestOffsetByShardResponse)

    async def RestartReadSide(
        self, request: manager.RestartReadSideRequest, grpc_context: ReplyContext
    ) -> manager.RestartReadSideResponse:
        """Deliver everything again."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().restart(request.read_side_id),
            manager.RestartReadSideResponse,
        )

    async def RestartReadSideByShard(
        self, request: manager.RestartReadSideByShardRequest, grpc_context: ReplyContext
    ) -> manager.RestartReadSideByShardResponse:
        """Deliver one shard again."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().restart(request.read_side_id, request.cluster_shard_number),
            manager.RestartReadSideByShardResponse,
        )

    async def PauseReadSide(
        self, request: manager.PauseReadSideRequest, grpc_context: ReplyContext
    ) -> manager.PauseReadSideResponse:
        """Stop deliveries until resumed."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().pause(request.read_side_id),
            manager.PauseReadSideResponse,
        )

    async def PauseReadSideByShard(
        self, request: manager.PauseReadSideByShardRequest, grpc_context: ReplyContext
    ) -> manager.PauseReadSideByShardResponse:
        """Stop one shard's deliveries until resumed."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().pause(request.read_side_id, request.cluster_shard_number),
            manager.PauseReadSideByShardResponse,
        )

    async def ResumeReadSide(
        self, request: manager.ResumeReadSideRequest, grpc_context: ReplyContext
    ) -> manager.ResumeReadSideResponse:
        """Go on where deliveries were paused or have stopped."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().resume(request.read_side_id),
            manager.ResumeReadSideResponse,
        )

    async def ResumeReadSideByShard(
        self, request: manager.ResumeReadSideByShardRequest, grpc_context: ReplyContext
    ) -> manager.ResumeReadSideByShardResponse:
        """Go on in one shard."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().resume(request.read_side_id, request.cluster_shard_number),
            manager.ResumeReadSideByShardResponse,
        )

    async def SkipOffset(
        self, request: manager.SkipOffsetRequest, grpc_context: ReplyContext
    ) -> manager.SkipOffsetResponse:
        """Step over the next event of each shard that is stuck."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().skip(request.read_side_id),
            manager.SkipOffsetResponse,
        )

    async def SkipOffsetByShard(
        self, request: manager.SkipOffsetByShardRequest, grpc_context: ReplyContext
    ) -> manager.SkipOffsetByShardResponse:
        """Step over the next event of one shard, if it is stuck."""
        return await _done(
            grpc_context,
            lambda: self._read_side_management().skip(request.read_side_id, request.cluster_shard_number),
            manager.SkipOffsetByShardResponse,
        )

    async def GetReadSideStatus(
        self, request: pb.GetReadSideStatusRequest, grpc_context: ReplyContext
    ) -> pb.GetReadSideStatusResponse:
        """How read sides fare."""

        async def answer() -> pb.GetReadSideStatusResponse:
            found = await self._read_side_management().status(request.read_side_id or None)
            return pb.GetReadSideStatusResponse(read_sides=[status_to_pb(each) for each in found])

        return await _answered(grpc_context, answer, pb.GetReadSideStatusResponse)

    async def ReplayReadSide(
        self, request: pb.ReplayReadSideRequest, grpc_context: ReplyContext
    ) -> pb.ReplayReadSideResponse:
        """Deliver events again."""

        async def answer() -> pb.ReplayReadSideResponse:
            management, name, shards = (
                self._read_side_management(),
                request.read_side_id,
                list(request.shards),
            )
            match request.WhichOneof("from"):
                case "since":
                    try:
                        date = request.since.ToDatetime(timezone.utc)
                    except ValueError as error:
                        raise _Refused("since is no time") from error
                    obeyed = await management.replay_since(name, shards, date)
                case "after_offset":
                    obeyed = await management.replay_after(name, shards, request.after_offset)
                case "entities" if request.entities.ids and not shards:
                    ids = [_checked(entity_id) for entity_id in request.entities.ids]
                    obeyed = await management.replay_entities(name, ids)
                case _:
                    raise _Refused("one of since, after_offset and entities (without shards) is needed")
            return pb.ReplayReadSideResponse(count=obeyed.count, failed=obeyed.failed)

        return await _answered(grpc_context, answer, pb.ReplayReadSideResponse)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, grpc_context: ReplyContext
    ) -> pb.ListDeadLettersResponse:
        """What was set aside."""

        async def answer() -> pb.ListDeadLettersResponse:
            limit = min(request.limit or LISTED, MOST_LISTED)
            whose = request.entity_id or None
            page = await self._read_side_management().dead_letters(request.read_side_id, whose, limit)
            reply, octets = pb.ListDeadLettersResponse(has_more=page.has_more), 0
            for letter in page:
                octets += len(letter.envelope.event) + len(letter.envelope.resulting_state)
                if reply.letters and octets > LARGEST_REPLY:
                    reply.has_more = True
                    break
                reply.letters.append(letter_to_pb(letter))
            return reply

        return await _answered(grpc_context, answer, pb.ListDeadLettersResponse)

    async def RetryDeadLetters(
        self, request: pb.RetryDeadLettersRequest, grpc_context: ReplyContext
    ) -> pb.RetryDeadLettersResponse:
        """Deliver what was set aside."""

        async def answer() -> pb.RetryDeadLettersResponse:
            ids = [_checked(entity_id) for entity_id in request.entity_ids]
            obeyed = await self._read_side_management().retry_letters(request.read_side_id, ids)
            return pb.RetryDeadLettersResponse(delivered=obeyed.count, failed=obeyed.failed)

        return await _answered(grpc_context, answer, pb.RetryDeadLettersResponse)

    async def DropDeadLetters(
        self, request: pb.DropDeadLettersRequest, grpc_context: ReplyContext
    ) -> pb.DropDeadLettersResponse:
        """Forget what was set aside."""

        async def answer() -> pb.DropDeadLettersResponse:
            whose, number = _checked(request.entity_id), request.sequence_number or None
            dropped = await self._read_side_management().drop_letters(request.read_side_id, whose, number)
            return pb.DropDeadLettersResponse(dropped=dropped)

        return await _answered(grpc_context, answer, pb.DropDeadLettersResponse)


class _Refused(CosError):
    """A request is not as it must be; the text says why."""


def _checked(entity_id: str) -> str:
    if fault := fault_of_entity_id(entity_id):
        raise _Refused(fault)
    return entity_id


async def _done(
    context: ReplyContext, do: Callable[[], Awaitable[object]], reply: Callable[..., _Reply]
) -> _Reply:
    """Do it and answer with success; CoS has no other answer than that, or an error."""

    async def answer() -> _Reply:
        await do()
        return reply(successful=True)

    return await _answered(context, answer, reply)


async def _answered(
    context: ReplyContext, answer: Callable[[], Awaitable[_Reply]], empty: Callable[..., _Reply]
) -> _Reply:
    """The answer; or an empty one, with the status of what went wrong."""
    try:
        return await answer()
    except _Refused as error:
        refuse(context, Status(Code.INVALID_ARGUMENT, str(error)))
    except (UnknownReadSide, WrongShard, ReadSideUnavailable, JournalUnavailable) as error:
        refuse(context, error_status(error))
    except Exception:
        logger.exception("a request ended in an unforeseen error")
        refuse(context, Status(Code.INTERNAL, "the service failed; its log says why"))
    return empty()
