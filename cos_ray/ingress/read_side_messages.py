"""Read sides' values as messages of `cos_ray.v1`, and their errors as a status."""

from __future__ import annotations

from datetime import datetime, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from cos_ray.domain.errors import Code, CosError, JournalUnavailable, Status, UnknownReadSide, WrongShard
from cos_ray.domain.read_sides import Behind, DeadLetter, LastError, ReadSideStatus, ShardState
from cos_ray.protocol.codec import meta_to_pb, unpack
from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2 as pb

_STATES = {
    ShardState.STARTING: pb.SHARD_STATE_STARTING,
    ShardState.RUNNING: pb.SHARD_STATE_RUNNING,
    ShardState.RETRYING: pb.SHARD_STATE_RETRYING,
    ShardState.STALLED: pb.SHARD_STATE_STALLED,
    ShardState.PAUSED: pb.SHARD_STATE_PAUSED,
    ShardState.STOPPED: pb.SHARD_STATE_STOPPED,
    ShardState.ELSEWHERE: pb.SHARD_STATE_UNKNOWN,
    ShardState.UNKNOWN: pb.SHARD_STATE_UNKNOWN,
}


def status_to_pb(status: ReadSideStatus) -> pb.ReadSideStatus:
    """A read side in all its shards."""
    now = datetime.now(timezone.utc)
    return pb.ReadSideStatus(
        read_side_id=status.read_side, shards=[_shard_to_pb(shard, now) for shard in status.shards]
    )


def letter_to_pb(letter: DeadLetter) -> pb.DeadLetter:
    """An event that was set aside."""
    envelope = letter.envelope
    return pb.DeadLetter(
        shard=letter.shard,
        offset=letter.offset,
        event=unpack(envelope.event),
        state=unpack(envelope.resulting_state),
        meta=meta_to_pb(envelope.meta),
        reason=letter.reason,
        failures=letter.failures,
        parked_at=_timestamp(letter.parked_at),
        sequence_number=envelope.sequence_number,
    )


def error_status(error: CosError) -> Status:
    """What a client is told of an error that the management foresees."""
    match error:
        case UnknownReadSide():
            return Status(Code.NOT_FOUND, str(error))
        case WrongShard():
            return Status(Code.INVALID_ARGUMENT, str(error))
        case JournalUnavailable():
            return Status(Code.UNAVAILABLE, "the journal is unavailable")
        case _:
            return Status(Code.UNAVAILABLE, str(error))


def _shard_to_pb(behind: Behind, now: datetime) -> pb.ShardStatus:
    status, lag = behind.status, behind.lag
    seconds = max(0.0, (now - lag.oldest).total_seconds()) if lag.oldest else 0.0
    return pb.ShardStatus(
        shard=status.shard,
        state=_STATES[status.state],
        offset=status.offset,
        events_behind=lag.events,
        is_further_behind=lag.is_more,
        seconds_behind=seconds,
        deliveries=status.deliveries,
        failures=status.failures,
        skipped=status.skipped,
        dead_letters=behind.dead_letters,
        last_error=_error_to_pb(status.last_error) if status.last_error else None,
    )


def _error_to_pb(error: LastError) -> pb.ReadSideError:
    return pb.ReadSideError(
        reason=error.reason,
        date=_timestamp(error.date),
        entity_id=error.entity_id or "",
        revision_number=error.revision or 0,
    )


def _timestamp(date: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(date)
    return timestamp
