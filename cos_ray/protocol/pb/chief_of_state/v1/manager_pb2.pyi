from cos_ray.protocol.pb.chief_of_state.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetLatestOffsetRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class GetLatestOffsetResponse(_message.Message):
    __slots__ = ("offsets",)
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    offsets: _containers.RepeatedCompositeFieldContainer[_common_pb2.ReadSideOffset]
    def __init__(self, offsets: _Optional[_Iterable[_Union[_common_pb2.ReadSideOffset, _Mapping]]] = ...) -> None: ...

class GetLatestOffsetByShardRequest(_message.Message):
    __slots__ = ("read_side_id", "cluster_shard_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SHARD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    cluster_shard_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., cluster_shard_number: _Optional[int] = ...) -> None: ...

class GetLatestOffsetByShardResponse(_message.Message):
    __slots__ = ("offsets",)
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    offsets: _common_pb2.ReadSideOffset
    def __init__(self, offsets: _Optional[_Union[_common_pb2.ReadSideOffset, _Mapping]] = ...) -> None: ...

class RestartReadSideRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class RestartReadSideResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class RestartReadSideByShardRequest(_message.Message):
    __slots__ = ("read_side_id", "cluster_shard_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SHARD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    cluster_shard_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., cluster_shard_number: _Optional[int] = ...) -> None: ...

class RestartReadSideByShardResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class PauseReadSideRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class PauseReadSideResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class PauseReadSideByShardRequest(_message.Message):
    __slots__ = ("read_side_id", "cluster_shard_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SHARD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    cluster_shard_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., cluster_shard_number: _Optional[int] = ...) -> None: ...

class PauseReadSideByShardResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class ResumeReadSideRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class ResumeReadSideResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class ResumeReadSideByShardRequest(_message.Message):
    __slots__ = ("read_side_id", "cluster_shard_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SHARD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    cluster_shard_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., cluster_shard_number: _Optional[int] = ...) -> None: ...

class ResumeReadSideByShardResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class SkipOffsetRequest(_message.Message):
    __slots__ = ("read_side_id",)
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    def __init__(self, read_side_id: _Optional[str] = ...) -> None: ...

class SkipOffsetResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...

class SkipOffsetByShardRequest(_message.Message):
    __slots__ = ("read_side_id", "cluster_shard_number")
    READ_SIDE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SHARD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    read_side_id: str
    cluster_shard_number: int
    def __init__(self, read_side_id: _Optional[str] = ..., cluster_shard_number: _Optional[int] = ...) -> None: ...

class SkipOffsetByShardResponse(_message.Message):
    __slots__ = ("successful",)
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    successful: bool
    def __init__(self, successful: bool = ...) -> None: ...
