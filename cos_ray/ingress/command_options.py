"""What a client asks of the service itself for one command, in the request's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import IdempotencyKey, Revision, fault_of_idempotency_key

IDEMPOTENCY_KEY = "x-cos-idempotency-key"
EXPECTED_REVISION = "x-cos-expected-revision"
TIMEOUT = "x-cos-timeout-ms"
"""What a gRPC client says by its deadline."""

_DIGITS = 19
"""Of the longest revision a journal can hold."""


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """How a command is to be run."""

    key: IdempotencyKey | None = None
    expected_revision: Revision | None = None
    timeout: float | None = None
    """Seconds that the client gives it; None: it does not say."""


NONE = CommandOptions()


def command_options_of(metadata: Iterable[tuple[str, str | bytes]]) -> CommandOptions | Status:
    """Read them; a status if one of them is not as it must be."""
    found: dict[str, str] = {}
    for key, value in metadata:
        name = key.lower()
        if name in (IDEMPOTENCY_KEY, EXPECTED_REVISION, TIMEOUT):
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
    timeout = found.get(TIMEOUT)
    if timeout is not None and not (is_whole_number(timeout) and int(timeout) > 0):
        return _wrong(f"{TIMEOUT} is {timeout!r}; allowed: a whole number from 1")
    return CommandOptions(
        None if given_key is None else IdempotencyKey(given_key),
        None if revision is None else Revision(int(revision)),
        None if timeout is None else int(timeout) / 1000,
    )


def is_whole_number(text: str) -> bool:
    """Whether it is a number from 0, of no more digits than a journal's."""
    return text.isascii() and text.isdigit() and len(text.lstrip("0")) <= _DIGITS


def _wrong(message: str) -> Status:
    return Status(Code.INVALID_ARGUMENT, message)
