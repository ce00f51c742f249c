"""Who a request comes from, as far as limits go."""

from __future__ import annotations

from collections.abc import Hashable

from cos_ray.ingress.status import ReplyContext

FORWARDED_FOR = "x-forwarded-for"


def client_of(context: ReplyContext) -> Hashable:
    """
    The caller that a token names, else the address that a gateway in front has put down last.

    None if neither is there: the service's own proxy hides where a connection comes from.
    """
    caller: Hashable = getattr(context, "caller", None)
    if caller is not None:
        return caller
    addresses = [value for key, value in context.invocation_metadata() if key.lower() == FORWARDED_FOR]
    if not addresses or not isinstance(addresses[-1], str):
        return None
    return addresses[-1].rpartition(",")[2].strip() or None
