import datetime

from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetEventsRequest(_message.Message):
    __slots__ = ("entity_id", "from_revision", "to_revision", "page_size")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    TO_REVISION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    from_revision: int
    to_revision: int
    page_size: int
    def __init__(self, entity_id: _Optional[str] = ..., from_revision: _Optional[int] = ..., to_revision: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class GetEventsResponse(_message.Message):
    __slots__ = ("events", "next_revision")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_REVISION_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[HistoricEvent]
    next_revision: int
    def __init__(self, events: _Optional[_Iterable[_Union[HistoricEvent, _Mapping]]] = ..., next_revision: _Optional[int] = ...) -> None: ...

class HistoricEvent(_message.Message):
    __slots__ = ("event", "resulting_state", "meta")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    event: _any_pb2.Any
    resulting_state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., resulting_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class GetStateAtRequest(_message.Message):
    __slots__ = ("entity_id", "revision", "time")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    revision: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, entity_id: _Optional[str] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetStateAtResponse(_message.Message):
    __slots__ = ("state", "meta")
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class GetStatesRequest(_message.Message):
    __slots__ = ("entity_ids",)
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, entity_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetStatesResponse(_message.Message):
    __slots__ = ("states", "missing")
    STATES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[GetStateAtResponse]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, states: _Optional[_Iterable[_Union[GetStateAtResponse, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class ListEntitiesRequest(_message.Message):
    __slots__ = ("prefix", "updated_since", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    UPDATED_SINCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    updated_since: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., updated_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEntitiesResponse(_message.Message):
    __slots__ = ("entities", "next_page_token")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[ListedEntity]
    next_page_token: str
    def __init__(self, entities: _Optional[_Iterable[_Union[ListedEntity, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListedEntity(_message.Message):
    __slots__ = ("entity_id", "updated_at", "offset")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    updated_at: _timestamp_pb2.Timestamp
    offset: int
    def __init__(self, entity_id: _Optional[str] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...
