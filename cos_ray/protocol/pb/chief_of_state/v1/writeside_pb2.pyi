from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandleCommandRequest(_message.Message):
    __slots__ = ("command", "prior_state", "prior_event_meta")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STATE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_EVENT_META_FIELD_NUMBER: _ClassVar[int]
    command: _any_pb2.Any
    prior_state: _any_pb2.Any
    prior_event_meta: _common_pb2.MetaData
    def __init__(self, command: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., prior_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., prior_event_meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class HandleCommandResponse(_message.Message):
    __slots__ = ("event", "events")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    event: _any_pb2.Any
    events: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class HandleEventRequest(_message.Message):
    __slots__ = ("event", "prior_state", "event_meta")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STATE_FIELD_NUMBER: _ClassVar[int]
    EVENT_META_FIELD_NUMBER: _ClassVar[int]
    event: _any_pb2.Any
    prior_state: _any_pb2.Any
    event_meta: _common_pb2.MetaData
    def __init__(self, event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., prior_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., event_meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class HandleEventResponse(_message.Message):
    __slots__ = ("resulting_state",)
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    resulting_state: _any_pb2.Any
    def __init__(self, resulting_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...
