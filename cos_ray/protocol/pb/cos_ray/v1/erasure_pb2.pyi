import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EraseEntityRequest(_message.Message):
    __slots__ = ("entity_id", "reason")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    reason: str
    def __init__(self, entity_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EraseEntityResponse(_message.Message):
    __slots__ = ("erased_at", "events")
    ERASED_AT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    erased_at: _timestamp_pb2.Timestamp
    events: int
    def __init__(self, erased_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., events: _Optional[int] = ...) -> None: ...

class EntityErased(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
