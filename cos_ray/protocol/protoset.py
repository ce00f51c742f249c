"""The service's protos, compiled: for clients without reflection, such as grpcurl or a gateway."""

from __future__ import annotations

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from cos_ray.protocol.pb.chief_of_state.v1 import (
    manager_pb2,
    persistence_pb2,
    readside_pb2,
    service_pb2,
    writeside_pb2,
)
from cos_ray.protocol.pb.cos_ray.v1 import (
    erasure_pb2,
    history_pb2,
    operations_pb2,
    readsides_pb2,
    writestream_pb2,
)

_MODULES = (
    service_pb2,
    manager_pb2,
    writeside_pb2,
    readside_pb2,
    persistence_pb2,
    history_pb2,
    erasure_pb2,
    readsides_pb2,
    operations_pb2,
    writestream_pb2,
)


def protoset() -> bytes:
    """A FileDescriptorSet of all files and what they import, each after its imports."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        if file.name not in found:
            found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)

    for module in _MODULES:
        add(module.DESCRIPTOR)
    return FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)
