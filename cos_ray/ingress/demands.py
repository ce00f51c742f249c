"""What a client asks of the service itself for one command, in the request's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import IdempotencyKey, Revision, fault_of_idempotency_key

IDEMPOTENCY_KEY = "x-cos-idempotency-key"
EXPECTED_REVISION = "x-cos-expected-revision"

_DIGITS = 19
"""Of the longest revision a journal can hold."""


@dataclass(frozen=True, slots=True)
class Demands:
    """How a command is to be run."""

    key: IdempotencyKey | None = None
    expected_revision: Revision | None = None


NONE = Demands()


def demands_of(metadata: Iterable[tuple[str, str | bytes]]) -> Demands | Status:
    """Read them; a status if one of them is not as it must be."""
    found: dict[str, str] = {}
    for key, value in metadata:
        name = key.lower()
        if name in (IDEMPOTENCY_KEY, EXPECTED_REVISION):
            if name in found:
                return _wrong(f"{name} is given more than once")
            found[name] = value if isinstance(value, str) else value.decode("utf-8", "replace")
    if not found:
        return NONE
    given_key, revision = found.get(IDEMPOTENCY_KEY), found.get(EXPECTED_REVISION)
    if given_key is not None and (fault := fault_of_idempotency_key(given_key)):
        return _wrong(fault)
    if revision is not None and not is_whole_number(revision):
        return _wrong(f"{EXPECTED_REVISION} is {revision!r}; allowed: a whole number from 0")
    return Demands(
        None if given_key is None else IdempotencyKey(given_key),
        None if revision is None else Revision(int(revision)),
    )


def is_whole_number(text: str) -> bool:
    """Whether it is a number from 0, of no more digits than a journal's."""
    return text.isascii() and text.isdigit() and len(text.lstrip("0")) <= _DIGITS


def _wrong(message: str) -> Status:
    return Status(Code.INVALID_ARGUMENT, message)
