"""The current trace, as headers of a call to a handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cos_ray.domain.messages import Headers

Outgoing: TypeAlias = Callable[[], Headers]
"""What tells of the current trace; its keys are in lower case."""


def with_trace(headers: Headers, outgoing: Outgoing | None) -> Headers:
    """
    The headers, and those of the current trace; None: traces are off.

    A client's own of the same names give way: they name its span, and not the one that calls.
    """
    if outgoing is None or not (ours := outgoing()):
        return headers
    names = {header.key for header in ours}
    return (*(header for header in headers if header.key.lower() not in names), *ours)
