"""Asks a running service about its read sides; whatever goes wrong ends the command with one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.cli.service_client import ServiceClient, fail
from cos_ray.protocol.pb.chief_of_state.v1 import manager_pb2 as manager
from cos_ray.protocol.pb.chief_of_state.v1.manager_pb2_grpc import ReadSideManagerServiceStub
from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2 as pb
from cos_ray.protocol.pb.cos_ray.v1.readsides_pb2_grpc import ReadSideServiceStub

ANSWER_WITHIN = 40.0
"""Seconds in which the service answers, if it ever does: its own bounds are below that."""


class ReadSideClient:
    """One service."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._manager = ReadSideManagerServiceStub(service.channel)
        self._ours = ReadSideServiceStub(service.channel)

    def do(self, verb: str, id_: str, shard: int | None) -> None:
        """Pause, resume, restart or skip, in one shard or in all."""
        if shard is None:
            reply = self._call(
                getattr(self._manager, verb), getattr(manager, f"{verb}Request")(read_side_id=id_)
            )
        else:
            by_shard = f"{verb}ByShard"
            request = getattr(manager, f"{by_shard}Request")(read_side_id=id_, cluster_shard_number=shard)
            reply = self._call(getattr(self._manager, by_shard), request)
        if not reply.successful:
            fail("the service answered successful = false")

    def offsets(self, id_: str, shard: int | None) -> dict[int, int]:
        """The offset of each shard, or of one."""
        if shard is not None:
            request = manager.GetLatestOffsetByShardRequest(read_side_id=id_, cluster_shard_number=shard)
            entries = [self._call(self._manager.GetLatestOffsetByShard, request).offsets]
        else:
            reply = self._call(
                self._manager.GetLatestOffset, manager.GetLatestOffsetRequest(read_side_id=id_)
            )
            entries = list(reply.offsets)
        return {entry.cluster_shard_number: entry.offset for entry in entries}

    def status(self, id_: str) -> Sequence[pb.ReadSideStatus]:
        """How this read side fares, or all."""
        request = pb.GetReadSideStatusRequest(read_side_id=id_)
        return list(self._call(self._ours.GetReadSideStatus, request).read_sides)

    def replay(
        self,
        id_: str,
        shards: Sequence[int],
        since: datetime | None,
        after: int | None,
        entities: Sequence[str],
    ) -> pb.ReplayReadSideResponse:
        """Deliver again."""
        request = pb.ReplayReadSideRequest(read_side_id=id_, shards=shards)
        if since is not None:
            date = Timestamp()
            date.FromDatetime(since)
            request.since.CopyFrom(date)
        elif after is not None:
            request.after_offset = after
        else:
            request.entities.ids.extend(entities)
        reply: pb.ReplayReadSideResponse = self._call(self._ours.ReplayReadSide, request)
        return reply

    def dead_letters(self, id_: str, entity: str, limit: int) -> pb.ListDeadLettersResponse:
        """What was set aside."""
        request = pb.ListDeadLettersRequest(read_side_id=id_, entity_id=entity, limit=limit)
        reply: pb.ListDeadLettersResponse = self._call(self._ours.ListDeadLetters, request)
        return reply

    def retry(self, id_: str, entities: Sequence[str]) -> pb.RetryDeadLettersResponse:
        """Deliver what was set aside."""
        request = pb.RetryDeadLettersRequest(read_side_id=id_, entity_ids=entities)
        reply: pb.RetryDeadLettersResponse = self._call(self._ours.RetryDeadLetters, request)
        return reply

    def drop(self, id_: str, entity: str, sequence_number: int) -> int:
        """Forget what was set aside; how many events that were."""
        request = pb.DropDeadLettersRequest(
            read_side_id=id_, entity_id=entity, sequence_number=sequence_number
        )
        return int(self._call(self._ours.DropDeadLetters, request).dropped)

    def _call(self, method: Callable[..., Any], request: object) -> Any:
        return self._service.call(method, request, ANSWER_WITHIN)
