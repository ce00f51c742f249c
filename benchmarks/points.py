"""What is measured: points, and how much time each gets."""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_ACCOUNTS = 1_000
STANDARD_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure of each contestant."""

    series: str
    """The table or plot it belongs to."""
    x: int
    """Its place there: requests in flight, accounts or bytes."""
    in_flight: int = STANDARD_IN_FLIGHT
    accounts: int = STANDARD_ACCOUNTS
    owner_bytes: int = 10
    is_cold: bool = False
    """Whether each account is touched once, by opening it."""
    share_of_standard: float | None = None
    """A fixed rate instead of a number in flight: this share of what the contestant does at the most."""
    seconds: float = 3.0
    repetitions: int = 3

    @property
    def key(self) -> str:
        """Unlike that of any other point."""
        return f"{self.series}/{self.x}"


STANDARD = "standard/64"


def points(*, quick: bool) -> list[Point]:
    """All points, the standard one first: others refer to it."""
    if quick:
        return [
            Point("standard", 64, seconds=2, repetitions=3),
            Point("concurrency", 1, in_flight=1, seconds=1.5, repetitions=2),
            Point("cold", 0, is_cold=True, seconds=2, repetitions=2),
            Point("open loop", 50, share_of_standard=0.5, seconds=3, repetitions=1),
        ]
    return [
        Point("standard", 64, seconds=4, repetitions=5),
        *(Point("concurrency", n, in_flight=n) for n in (1, 8, 256)),
        Point("cold", 0, is_cold=True, seconds=4),
        *(Point("payload", n, accounts=100, owner_bytes=n, repetitions=2) for n in PAYLOADS),
        *(Point("open loop", n, share_of_standard=n / 100, seconds=5, repetitions=2) for n in (50, 80)),
    ]


PAYLOADS = (100, 1_000, 10_000, 100_000)
"""Sizes of an account's state in bytes; it travels to the handler and back, and into the journal."""
