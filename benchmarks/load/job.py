"""What the load generator is asked, and what it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypedDict

from typing_extensions import Self

from benchmarks.load.requests import Style


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement."""

    style: Style
    address: str
    prefix: str
    """Accounts are named by it and a number."""
    accounts: int
    in_flight: int
    seconds: float
    rate: float | None = None
    """Requests per second, sent whatever the answers do; None keeps `in_flight` under way instead."""
    opens: bool = False
    """Open each account once, instead of paying into them in turn."""
    owner_bytes: int = 10
    """How large an opened account is."""

    def to_json(self) -> str:
        """As a line."""
        return json.dumps({**asdict(self), "style": self.style.value})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The other way round."""
        values = json.loads(line)
        return cls(**{**values, "style": Style(values["style"])})


class Done(TypedDict):
    """What came of a job."""

    seconds: float
    latencies: list[float]
    """Seconds, of what succeeded."""
    failures: dict[str, int]
    """Reasons, and how often each."""
    cpu: float
    """Seconds of CPU the generator used."""
