"""
Between an `Any` and the application's own classes, by what a method's annotations say.

A parameter may be annotated with one message class or a union of such, `google.protobuf.Any` for
the packed message itself, or nothing in particular: then the class is found by the type's name
among all that are loaded in the process.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import any as any_functions
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pool import Default
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cos_ray.domain.messages import EMPTY_STATE, NOTHING, Packed

_EMPTY = Empty.DESCRIPTOR.full_name
_UNIONS = (typing.Union, types.UnionType)


class Unfit(Exception):
    """An `Any` is not what a parameter takes; the text says what it is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter takes."""

    classes: tuple[type[Message], ...] = ()
    """These messages only; none: whatever is loaded."""
    takes_none: bool = True

    def value(self, packed: Packed) -> Message:
        """Unpack a command or an event. Raises Unfit."""
        try:
            message = Any.FromString(packed)
        except DecodeError as error:
            raise Unfit("no google.protobuf.Any") from error
        if Any in self.classes:
            return message
        name = message.TypeName()
        class_ = self._class_of(name)
        if class_ is None:
            raise Unfit(message.type_url or "nothing at all")
        try:
            return class_.FromString(message.value)
        except DecodeError as error:
            raise Unfit(f"{name} with malformed content") from error

    def state(self, packed: Packed) -> Message | None:
        """
        Unpack a state. Raises Unfit.

        Before an entity's first event that is the first of: Empty, the Any, None, or a new
        message of the class, whichever the annotation allows.
        """
        if packed in (EMPTY_STATE, NOTHING) and not {Any, Empty}.intersection(self.classes):
            return None if self.takes_none else self.classes[0]()
        return self.value(packed)

    def _class_of(self, name: str) -> type[Message] | None:
        if not self.classes:
            return _loaded(name)
        return next((class_ for class_ in self.classes if class_.DESCRIPTOR.full_name == name), None)


def parameter(annotation: object) -> Parameter:
    """What an annotation says. Raises TypeError when it names something that is no message."""
    if annotation in (None, typing.Any, object, Message):
        return Parameter()
    members = typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)
    classes = tuple(member for member in members if member is not type(None))
    for class_ in classes:
        if not (isinstance(class_, type) and issubclass(class_, Message)):
            raise TypeError(f"{getattr(class_, '__name__', class_)} is no protobuf message")
    if Message in classes:
        return Parameter(takes_none=type(None) in members)
    return Parameter(classes, takes_none=type(None) in members)


def packed_message(message: object) -> Packed:
    """Pack what the application made; an `Any` is taken as packed already. Raises TypeError."""
    if not isinstance(message, Message):
        raise TypeError(f"{type(message).__name__} is no protobuf message")
    if isinstance(message, Any):
        return Packed(message.SerializeToString())
    return Packed(any_functions.pack(message).SerializeToString())


def annotations_of(method: Callable[..., object], names: tuple[str, ...]) -> list[object]:
    """
    The annotations of a method's first parameters, by position. Raises TypeError, NameError.

    `names` says how many there are; a parameter without annotation counts as None.
    """
    function = getattr(method, "__func__", method)
    code = getattr(function, "__code__", None)
    if code is None:
        return [None] * len(names)
    hints = typing.get_type_hints(function)
    own = code.co_varnames[: code.co_argcount]
    bound = own[1:] if hasattr(method, "__self__") else own
    return [hints.get(name) for name in bound[: len(names)]] + [None] * (len(names) - len(bound))


def _loaded(name: str) -> type[Message] | None:
    try:
        return GetMessageClass(Default().FindMessageTypeByName(name))
    except KeyError:
        return None
