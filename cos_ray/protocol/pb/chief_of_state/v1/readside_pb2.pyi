from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandleReadSideRequest(_message.Message):
    __slots__ = ("event", "state", "meta", "read_side_id")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    event: _any_pb2.Any
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    read_side_id: str
    def __init__(self, event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ..., read_side_id: _Optional[str] = ...) -> None: ...

class HandleReadSideResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...
