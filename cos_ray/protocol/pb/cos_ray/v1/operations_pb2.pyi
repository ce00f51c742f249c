from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServiceStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServiceStatusResponse(_message.Message):
    __slots__ = ("service", "placement", "nodes", "ingress", "shard_hosts", "live_entities", "silent")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    SHARD_HOSTS_FIELD_NUMBER: _ClassVar[int]
    LIVE_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    service: str
    placement: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    ingress: _containers.RepeatedCompositeFieldContainer[IngressStatus]
    shard_hosts: _containers.RepeatedCompositeFieldContainer[ShardHostStatus]
    live_entities: int
    silent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, service: _Optional[str] = ..., placement: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., ingress: _Optional[_Iterable[_Union[IngressStatus, _Mapping]]] = ..., shard_hosts: _Optional[_Iterable[_Union[ShardHostStatus, _Mapping]]] = ..., live_entities: _Optional[int] = ..., silent: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("address", "cpus", "live_entities")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    LIVE_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    address: str
    cpus: float
    live_entities: int
    def __init__(self, address: _Optional[str] = ..., cpus: _Optional[float] = ..., live_entities: _Optional[int] = ...) -> None: ...

class IngressStatus(_message.Message):
    __slots__ = ("node", "pid", "in_hand", "commands")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    IN_HAND_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    node: str
    pid: int
    in_hand: int
    commands: int
    def __init__(self, node: _Optional[str] = ..., pid: _Optional[int] = ..., in_hand: _Optional[int] = ..., commands: _Optional[int] = ...) -> None: ...

class ShardHostStatus(_message.Message):
    __slots__ = ("host", "node", "pid", "shards", "live_entities", "memory_bytes", "in_progress", "commands", "activations", "passivations", "own_processes", "entities_with_process", "shared", "promotions")
    HOST_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    LIVE_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    PASSIVATIONS_FIELD_NUMBER: _ClassVar[int]
    OWN_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_WITH_PROCESS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    PROMOTIONS_FIELD_NUMBER: _ClassVar[int]
    host: str
    node: str
    pid: int
    shards: int
    live_entities: int
    memory_bytes: int
    in_progress: int
    commands: int
    activations: int
    passivations: int
    own_processes: int
    entities_with_process: _containers.RepeatedScalarFieldContainer[str]
    shared: _containers.RepeatedCompositeFieldContainer[SharedEntities]
    promotions: int
    def __init__(self, host: _Optional[str] = ..., node: _Optional[str] = ..., pid: _Optional[int] = ..., shards: _Optional[int] = ..., live_entities: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., in_progress: _Optional[int] = ..., commands: _Optional[int] = ..., activations: _Optional[int] = ..., passivations: _Optional[int] = ..., own_processes: _Optional[int] = ..., entities_with_process: _Optional[_Iterable[str]] = ..., shared: _Optional[_Iterable[_Union[SharedEntities, _Mapping]]] = ..., promotions: _Optional[int] = ...) -> None: ...

class SharedEntities(_message.Message):
    __slots__ = ("why", "entities")
    WHY_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    why: str
    entities: int
    def __init__(self, why: _Optional[str] = ..., entities: _Optional[int] = ...) -> None: ...

class ResizeShardHostsRequest(_message.Message):
    __slots__ = ("hosts",)
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    hosts: int
    def __init__(self, hosts: _Optional[int] = ...) -> None: ...

class ResizeShardHostsResponse(_message.Message):
    __slots__ = ("hosts",)
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    hosts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hosts: _Optional[_Iterable[str]] = ...) -> None: ...
