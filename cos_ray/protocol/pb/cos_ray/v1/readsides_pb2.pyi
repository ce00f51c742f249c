import datetime

from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShardState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHARD_STATE_UNSPECIFIED: _ClassVar[ShardState]
    SHARD_STATE_STARTING: _ClassVar[ShardState]
    SHARD_STATE_RUNNING: _ClassVar[ShardState]
    SHARD_STATE_RETRYING: _ClassVar[ShardState]
    SHARD_STATE_STALLED: _ClassVar[ShardState]
    SHARD_STATE_PAUSED: _ClassVar[ShardState]
    SHARD_STATE_STOPPED: _ClassVar[ShardState]
    SHARD_STATE_UNKNOWN: _ClassVar[ShardState]
SHARD_STATE_UNSPECIFIED: ShardState
SHARD_STATE_STARTING: ShardState
SHARD_STATE_RUNNING: ShardState
SHARD_STATE_RETRYING: ShardState
SHARD_STATE_STALLED: ShardState
SHARD_STATE_PAUSED: ShardState
SHARD_STATE_STOPPED: ShardState
SHARD_STATE_UNKNOWN: ShardState

class GetReadSideStatusRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class GetReadSideStatusResponse(_message.Message):
    __slots__ = ("read_sides",)
    READ_SIDES_FIELD_NUMBER: _ClassVar[int]
    read_sides: _containers.RepeatedCompositeFieldContainer[ReadSideStatus]
    def __init__(self, read_sides: _Optional[_Iterable[_Union[ReadSideStatus, _Mapping]]] = ...) -> None: ...

class ReadSideStatus(_message.Message):
    __slots__ = ("read_side_id", "shards")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    shards: _containers.RepeatedCompositeFieldContainer[ShardStatus]
    def __init__(self, read_side_id: _Optional[str] = ..., shards: _Optional[_Iterable[_Union[ShardStatus, _Mapping]]] = ...) -> None: ...

class ShardStatus(_message.Message):
    __slots__ = ("shard", "state", "offset", "events_behind", "is_further_behind", "seconds_behind", "deliveries", "failures", "skipped", "dead_letters", "last_error")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    EVENTS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    IS_FURTHER_BEHIND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    shard: int
    state: ShardState
    offset: int
    events_behind: int
    is_further_behind: bool
    seconds_behind: float
    deliveries: int
    failures: int
    skipped: int
    dead_letters: int
    last_error: ReadSideError
    def __init__(self, shard: _Optional[int] = ..., state: _Optional[_Union[ShardState, str]] = ..., offset: _Optional[int] = ..., events_behind: _Optional[int] = ..., is_further_behind: bool = ..., seconds_behind: _Optional[float] = ..., deliveries: _Optional[int] = ..., failures: _Optional[int] = ..., skipped: _Optional[int] = ..., dead_letters: _Optional[int] = ..., last_error: _Optional[_Union[ReadSideError, _Mapping]] = ...) -> None: ...

class ReadSideError(_message.Message):
    __slots__ = ("reason", "date", "entity_id", "revision_number")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    reason: str
    date: _timestamp_pb2.Timestamp
    entity_id: str
    revision_number: int
    def __init__(self, reason: _Optional[str] = ..., date: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., entity_id: _Optional[str] = ..., revision_number: _Optional[int] = ...) -> None: ...

class ReplayReadSideRequest(_message.Message):
    __slots__ = ("read_side_id", "shards", "since", "after_offset", "entities")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    AFTER_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    shards: _containers.RepeatedScalarFieldContainer[int]
    since: _timestamp_pb2.Timestamp
    after_offset: int
    entities: EntityIds
    def __init__(self, read_side_id: _Optional[str] = ..., shards: _Optional[_Iterable[int]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., after_offset: _Optional[int] = ..., entities: _Optional[_Union[EntityIds, _Mapping]] = ...) -> None: ...

class EntityIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplayReadSideResponse(_message.Message):
    __slots__ = ("count", "failed")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    count: int
    failed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., failed: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("read_side_id", "entity_id", "limit")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    entity_id: str
    limit: int
    def __init__(self, read_side_id: _Optional[str] = ..., entity_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("letters", "has_more")
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    has_more: bool
    def __init__(self, letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("shard", "offset", "event", "state", "meta", "reason", "failures", "parked_at", "sequence_number")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    PARKED_AT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    shard: int
    offset: int
    event: _any_pb2.Any
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    reason: str
    failures: int
    parked_at: _timestamp_pb2.Timestamp
    sequence_number: int
    def __init__(self, shard: _Optional[int] = ..., offset: _Optional[int] = ..., event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ..., reason: _Optional[str] = ..., failures: _Optional[int] = ..., parked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sequence_number: _Optional[int] = ...) -> None: ...

class RetryDeadLettersRequest(_message.Message):
    __slots__ = ("read_side_id", "entity_ids")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, read_side_id: _Optional[str] = ..., entity_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RetryDeadLettersResponse(_message.Message):
    __slots__ = ("delivered", "failed")
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    delivered: int
    failed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, delivered: _Optional[int] = ..., failed: _Optional[_Iterable[str]] = ...) -> None: ...

class DropDeadLettersRequest(_message.Message):
    __slots__ = ("read_side_id", "entity_id", "sequence_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    entity_id: str
    sequence_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., entity_id: _Optional[str] = ..., sequence_number: _Optional[int] = ...) -> None: ...

class DropDeadLettersResponse(_message.Message):
    __slots__ = ("dropped",)
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    dropped: int
    def __init__(self, dropped: _Optional[int] = ...) -> None: ...
