from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProcessCommandRequest(_message.Message):
    __slots__ = ("entity_id", "command")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    command: _any_pb2.Any
    def __init__(self, entity_id: _Optional[str] = ..., command: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...

class ProcessCommandResponse(_message.Message):
    __slots__ = ("state", "meta")
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ("entity_id",)
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    def __init__(self, entity_id: _Optional[str] = ...) -> None: ...

class GetStateResponse(_message.Message):
    __slots__ = ("state", "meta")
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("entity_id", "subscription_id")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    subscription_id: str
    def __init__(self, entity_id: _Optional[str] = ..., subscription_id: _Optional[str] = ...) -> None: ...

class SubscribeAllRequest(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("subscription_id", "event", "resulting_state", "meta")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    event: _any_pb2.Any
    resulting_state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, subscription_id: _Optional[str] = ..., event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., resulting_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class SubscribeAllResponse(_message.Message):
    __slots__ = ("subscription_id", "event", "resulting_state", "meta")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    event: _any_pb2.Any
    resulting_state: _any_pb2.Any
    meta: _common_pb2.MetaData
    def __init__(self, subscription_id: _Optional[str] = ..., event: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., resulting_state: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., meta: _Optional[_Union[_common_pb2.MetaData, _Mapping]] = ...) -> None: ...

class UnsubscribeRequest(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...

class UnsubscribeAllRequest(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...

class UnsubscribeResponse(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...

class UnsubscribeAllResponse(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...
