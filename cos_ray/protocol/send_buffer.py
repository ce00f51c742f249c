"""What waits to be sent in one message of many, at either end of a stream to a write handler."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

MOST_OCTETS = 1024 * 1024
"""Where a message of many ends; what alone is larger goes alone."""


class _Sized(Protocol):
    def ByteSize(self) -> int: ...


_Item = TypeVar("_Item", bound=_Sized)


class SendBuffer(Generic[_Item]):
    """Calls or answers in the order they were added, each under the number of its call."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[_Item, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, id_: int, item: _Item, octets: int | None = None) -> None:
        """`octets`: its size, where it is known already."""
        self._items[id_] = (item, item.ByteSize() if octets is None else octets)

    def drop(self, id_: int) -> bool:
        """Whether it was still here, and so will not be sent."""
        return self._items.pop(id_, None) is not None

    def take(self) -> list[_Item]:
        """As many as fit in one message, the oldest first; they count as sent."""
        octets = 0
        fitting: dict[int, _Item] = {}
        for id_, (item, size) in self._items.items():
            octets += size
            if fitting and octets > MOST_OCTETS:
                break
            fitting[id_] = item
        if len(fitting) == len(self._items):
            self._items.clear()
        else:
            for id_ in fitting:
                del self._items[id_]
        return list(fitting.values())
