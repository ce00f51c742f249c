"""Who a request comes from, as far as limits go."""

from __future__ import annotations

from collections.abc import Hashable

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
