"""Where a client wants a stream of events to begin, in the request's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import Offset, Revision
from cos_ray.ingress.command_options import is_whole_number

FROM_REVISION = "x-cos-from-revision"
FROM_OFFSET = "x-cos-from-offset"
WITH_OFFSET = "x-cos-with-offset"

_LARGEST = 2**63 - 1
"""That a journal can hold. What lies beyond never comes, either way."""


@dataclass(frozen=True, slots=True)
class SubscriptionStart:
    """The first revision of an entity, or the last offset that is known already; None: what is new."""

    first_revision: Revision | None = None
    after: Offset | None = None
    with_offset: bool = False
    """Whether each message is to say its offset."""


def subscription_start_of(
    metadata: Iterable[tuple[str, str | bytes]], *, of_all: bool
) -> SubscriptionStart | Status:
    """Read it; a status if it is not as it must be for a stream of one entity, or of all."""
    found: dict[str, str] = {}
    for key, value in metadata:
        name = key.lower()
        if name in (FROM_REVISION, FROM_OFFSET, WITH_OFFSET):
            if name in found:
                return _wrong(f"{name} is given more than once")
            found[name] = value if isinstance(value, str) else value.decode("utf-8", "replace")
    if foreign := found.keys() & ({FROM_REVISION} if of_all else {FROM_OFFSET, WITH_OFFSET}):
        method = "Subscribe" if of_all else "SubscribeAll"
        return _wrong(f"{min(foreign)} belongs to {method}")
    if found.get(WITH_OFFSET, "true") not in ("true", "false"):
        return _wrong(f"{WITH_OFFSET} is {found[WITH_OFFSET]!r}; allowed: true or false")
    for name in (FROM_REVISION, FROM_OFFSET):
        if name in found and not is_whole_number(found[name]):
            return _wrong(f"{name} is {found[name]!r}; allowed: a whole number from 0")
    revision, offset = found.get(FROM_REVISION), found.get(FROM_OFFSET)
    return SubscriptionStart(
        None if revision is None else Revision(min(int(revision), _LARGEST)),
        None if offset is None else Offset(min(int(offset), _LARGEST)),
        found.get(WITH_OFFSET, "true" if offset is not None else "false") == "true",
    )


def _wrong(message: str) -> Status:
    return Status(Code.INVALID_ARGUMENT, message)
