from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from cos_ray.protocol.pb.chief_of_state.v1 import writeside_pb2 as _writeside_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteSideCalls(_message.Message):
    __slots__ = ("calls", "withdrawn")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[WriteSideCall]
    withdrawn: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, calls: _Optional[_Iterable[_Union[WriteSideCall, _Mapping]]] = ..., withdrawn: _Optional[_Iterable[int]] = ...) -> None: ...

class WriteSideCall(_message.Message):
    __slots__ = ("id", "command", "event", "headers", "time_left", "first_event_meta")
    ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_META_FIELD_NUMBER: _ClassVar[int]
    id: int
    command: _writeside_pb2.HandleCommandRequest
    event: _writeside_pb2.HandleEventRequest
    headers: _containers.RepeatedCompositeFieldContainer[_common_pb2.Header]
    time_left: int
    first_event_meta: _common_pb2.MetaData
    def __init__(self, id: _Optional[int] = ..., command: _Optional[_Union[_writeside_pb2.HandleCommandRequest, _Mapping]] = ..., event: _Optional[_Union[_writeside_pb2.HandleEventRequest, _Mapping]] = ..., headers: _Optional[_Iterable[_Union[_common_pb2.Header, _Mapping]]] = ..., time_left: _Optional[int] = ..., first_event_meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class WriteSideAnswers(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[WriteSideAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[WriteSideAnswer, _Mapping]]] = ...) -> None: ...

class WriteSideAnswer(_message.Message):
    __slots__ = ("id", "command", "event", "failure", "states")
    class Failure(_message.Message):
        __slots__ = ("code", "message", "details")
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        DETAILS_FIELD_NUMBER: _ClassVar[int]
        code: int
        message: str
        details: bytes
        def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[bytes] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    id: int
    command: _writeside_pb2.HandleCommandResponse
    event: _writeside_pb2.HandleEventResponse
    failure: WriteSideAnswer.Failure
    states: _containers.RepeatedCompositeFieldContainer[_writeside_pb2.HandleEventResponse]
    def __init__(self, id: _Optional[int] = ..., command: _Optional[_Union[_writeside_pb2.HandleCommandResponse, _Mapping]] = ..., event: _Optional[_Union[_writeside_pb2.HandleEventResponse, _Mapping]] = ..., failure: _Optional[_Union[WriteSideAnswer.Failure, _Mapping]] = ..., states: _Optional[_Iterable[_Union[_writeside_pb2.HandleEventResponse, _Mapping]]] = ...) -> None: ...
