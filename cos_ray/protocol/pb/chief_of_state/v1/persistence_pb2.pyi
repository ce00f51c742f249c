from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StateWrapper(_message.Message):
    __slots__ = ("state", "meta")
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class EventWrapper(_message.Message):
    __slots__ = ("event", "resulting_state", "meta")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    event: _any_pb2.Any
    resulting_state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., resulting_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...
