"""
Dates to the nanosecond, as others store them.

Python's datetime ends at microseconds, and Chief of State's clock does not. What comes from a journal
goes out as it came in, so a date that has more than a datetime can hold is a datetime that holds more.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from typing_extensions import Self

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class PreciseDate(datetime):
    """
    An aware datetime that knows the nanoseconds after its microseconds, 0 to 999.

    It is compared, pickled and copied with them. To reckon with it gives what a datetime gives: the
    difference of two is a timedelta, which has none.
    """

    __slots__ = ("beyond",)

    beyond: int
    """Nanoseconds after the microsecond."""

    def __new__(cls, *parts: Any, beyond: int = 0, **named: Any) -> Self:
        """`parts` and `named`: as of a datetime."""
        date = super().__new__(cls, *parts, **named)
        date.beyond = beyond
        return date

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _restored, (_plain(self), self.beyond)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime) and _key(self) == _key(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: datetime, /) -> bool:  # type: ignore[override] # as datetime itself
        return _key(self) < _key(other)

    def __le__(self, other: datetime, /) -> bool:  # type: ignore[override] # as datetime itself
        return _key(self) <= _key(other)

    def __gt__(self, other: datetime, /) -> bool:  # type: ignore[override] # as datetime itself
        return _key(self) > _key(other)

    def __ge__(self, other: datetime, /) -> bool:  # type: ignore[override] # as datetime itself
        return _key(self) >= _key(other)

    def __hash__(self) -> int:
        return hash(_key(self)) if self.beyond else hash(_plain(self))


class Instant(NamedTuple):
    """A date as protobuf's Timestamp has it."""

    seconds: int
    """Since 1970; may be negative."""
    nanos: int
    """0 to 999,999,999."""


def instant_of(date: datetime) -> Instant:
    """All that an aware date says."""
    seconds, microseconds = divmod((date - _EPOCH) // _MICROSECOND, 1_000_000)
    return Instant(seconds, microseconds * 1_000 + _beyond(date))


def date_of(seconds: int, nanos: int) -> datetime:
    """The date, in UTC. Raises OverflowError for one that is not in the years 1 to 9999."""
    microseconds, beyond = divmod(nanos, 1_000)
    date = _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
    return _restored(date, beyond) if beyond else date


def _beyond(date: datetime) -> int:
    return date.beyond if isinstance(date, PreciseDate) else 0


def _key(date: datetime) -> tuple[datetime, int]:
    return _plain(date), _beyond(date)


def _plain(date: datetime) -> datetime:
    """The same, without what a datetime does not hold."""
    return datetime.combine(date.date(), date.timetz()) if isinstance(date, PreciseDate) else date


def _restored(date: datetime, beyond: int) -> PreciseDate:
    restored = PreciseDate.combine(date.date(), date.timetz())
    restored.beyond = beyond
    return restored
