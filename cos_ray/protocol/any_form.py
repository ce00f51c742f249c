"""
An application's messages as JSON, when its types are known.

They are known by compiled protos (`protoc --descriptor_set_out --include_imports`); without them an
`Any` stays what it is: the base64 of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Anything

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from cos_ray.domain.messages import Packed
from cos_ray.protocol.codec import pack, unpack
from cos_ray.protocol.json_form import Json, any_from_json, any_to_json

_DEEPEST = 60
"""How deep a JSON form may be nested."""


class AnyForms:
    """Both forms of an `Any`."""

    def __init__(self, descriptor_sets: Iterable[bytes] = ()) -> None:
        """Raises ValueError when they are no descriptor sets, or lack what they import."""
        files: dict[str, FileDescriptorProto] = {}
        for data in descriptor_sets:
            try:
                parsed = FileDescriptorSet.FromString(data)
            except DecodeError as error:
                raise ValueError("is no descriptor set") from error
            if not parsed.file:
                raise ValueError("holds no protos")
            files.update({file.name: file for file in parsed.file})
        self._pool = descriptor_pool.DescriptorPool()
        self.names = tuple(files)
        added: set[str] = set()
        for name in files:
            self._add(name, files, added)

    def to_json(self, packed: Packed, *, readable: bool = False) -> Json:
        """The base64 of it; if `readable`, an object with `@type`, as long as its type is known."""
        if readable and packed:
            try:
                form: Json = json_format.MessageToDict(
                    unpack(packed), preserving_proto_field_name=True, descriptor_pool=self._pool
                )
            except (TypeError, ValueError, DecodeError, json_format.Error):
                return any_to_json(packed)
            return form
        return any_to_json(packed)

    def from_json(self, value: Json) -> Packed:
        """What one of the two forms stands for. Raises ValueError, saying what it is not."""
        if not isinstance(value, dict):
            return any_from_json(value)
        if not isinstance(value.get("@type"), str):
            raise ValueError("is an object without @type")
        try:
            message: Anything = json_format.ParseDict(
                value, Any(), descriptor_pool=self._pool, max_recursion_depth=_DEEPEST
            )
        except (TypeError, ValueError, AttributeError, RecursionError, json_format.Error) as error:
            raise ValueError(f"is no message of that @type: {_short(error)}") from error
        return pack(message)

    def publish(self) -> list[str]:
        """
        Let this process's server reflection know the types, too.

        Answers with the files that it cannot know, for it knows others of their names.
        """
        pool, refused = descriptor_pool.Default(), []
        for name in self.names:
            try:
                pool.AddSerializedFile(self._pool.FindFileByName(name).serialized_pb)
            except TypeError:
                refused.append(name)
        return refused

    def _add(self, name: str, files: dict[str, FileDescriptorProto], added: set[str]) -> None:
        if name in added:
            return
        added.add(name)
        file = files.get(name) or _well_known(name)
        for dependency in file.dependency:
            self._add(dependency, files, added)
        try:
            self._pool.Add(file)
            for message in self._pool.FindFileByName(name).message_types_by_name.values():
                message_factory.GetMessageClass(message)
        except (TypeError, KeyError) as error:
            raise ValueError(f"has a file that does not fit: {name}: {_short(error)}") from error


def _well_known(name: str) -> FileDescriptorProto:
    if name.startswith("google/protobuf/"):
        # Their modules put themselves into the default pool when they are imported.
        from google.protobuf import (  # noqa: F401
            any_pb2,
            api_pb2,
            duration_pb2,
            empty_pb2,
            field_mask_pb2,
            struct_pb2,
            timestamp_pb2,
            wrappers_pb2,
        )

        try:
            return FileDescriptorProto.FromString(
                descriptor_pool.Default().FindFileByName(name).serialized_pb
            )
        except KeyError:
            pass
    raise ValueError(f"lacks {name}, which it imports (protoc --include_imports)")


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
