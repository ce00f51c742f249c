"""What a request's metadata says to the service, beside the message."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from urllib.parse import quote

from cos_ray.domain.messages import Header, Headers
from cos_ray.ingress.status import ReplyContext

FORWARDED_FOR = "x-forwarded-for"


def client_of(context: ReplyContext) -> Hashable:
    """
    The caller that a token names, else the address that a gateway in front has put down last.

    Without either where the connection comes from; None where Serve's proxy hides that.
    """
    caller: Hashable = getattr(context, "caller", None)
    if caller is not None:
        return caller
    addresses = [value for key, value in context.invocation_metadata() if key.lower() == FORWARDED_FOR]
    forwarded = (
        addresses[-1].rpartition(",")[2].strip() if addresses and isinstance(addresses[-1], str) else ""
    )
    if forwarded:
        return forwarded
    peer = getattr(context, "peer_address", None)
    return None if peer is None else peer()


def header_keys(setting: str) -> tuple[str, ...]:
    """The keys of a comma-separated setting: trimmed, blanks and repetitions left out, in order."""
    return tuple(dict.fromkeys(key for part in setting.split(",") if (key := part.strip())))


def select_headers(metadata: Iterable[tuple[str, str | bytes]], keys: Sequence[str]) -> Headers:
    """
    For each key each of its values, in order; the key is kept as configured (as in CoS).

    Metadata keys are lower-case on the wire. Values of `-bin` keys are bytes.
    """
    if not keys:
        return ()
    values: dict[str, list[str | bytes]] = {}
    for key, value in metadata:
        values.setdefault(key.lower(), []).append(value)
    return tuple(Header(key, value) for key in keys for value in values.get(key.lower(), ()))


def header_text(text: str) -> str:
    """The text, percent-encoded where it holds what a header cannot, an end of a line above all."""
    return text if text.isascii() and text.isprintable() and text == text.strip() else quote(text, safe="")
