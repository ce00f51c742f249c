"""Server reflection, v1alpha and v1: what a client may ask of the services here, methods included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from cos_ray.ingress.grpc_calls import MethodHandlers

_ALPHA = str(reflection.SERVICE_NAME)
_V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(handlers: MethodHandlers, services: Sequence[str]) -> None:
    """Answer for these services, and for every type that this process knows."""
    _publish_v1()
    servicer = aio.ReflectionServicer([*services, _ALPHA, _V1], _PoolWithMethods())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        _request_from,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in (_ALPHA, _V1):
        # The two versions differ in the package's name only, which is not on the wire.
        handlers.add(f"/{service}/ServerReflectionInfo", handler)


def _request_from(payload: bytes) -> reflection_pb2.ServerReflectionRequest:
    """The request; of what is none an empty one, which is answered with INVALID_ARGUMENT."""
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(payload)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()


class _PoolWithMethods:
    """
    The default pool, in which methods are found by name, too.

    `grpcurl describe package.Service.Method` and ghz ask so; Python's pool knows no methods as symbols.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """See DescriptorPool. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


def _publish_v1() -> None:
    """Let the v1 service be described: it is in no package for Python."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    old, file.package = f".{file.package}.", "grpc.reflection.v1"
    file.name = "grpc/reflection/v1/reflection.proto"
    new = f".{file.package}."
    for field in [field for message in file.message_type for field in message.field if field.type_name]:
        field.type_name = field.type_name.replace(old, new)
    for method in [method for service in file.service for method in service.method]:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    descriptor_pool.Default().Add(file)
