"""
What other programs of the cluster must know to reach a service without its ingress.

Kept by Ray's head node as long as it lives, under the service's namespace. It is sealed: who has no
code of ours has no use for it. It holds what every process of the service is started with, the
database's password among it, as the arguments of its actors do: whoever may run code in the cluster
may do all that the service may.
"""

from __future__ import annotations

import pickle
from typing import Any

import ray

from cos_ray.ray_internals import key_value
from cos_ray.transport.lazy_pickle import LazyPickle

_TABLE = b"cos_ray"


def is_connected() -> bool:
    """Whether this process is connected to a cluster."""
    connected: bool = ray.is_initialized()
    return connected


def publish(namespace: str, way_in: LazyPickle[Any], *, only_if_none: bool = False) -> None:
    """Let it be known how this service is reached; with `only_if_none`, unless something is known."""
    key_value.put(_TABLE, namespace.encode(), pickle.dumps(way_in), overwrite=not only_if_none)


def withdraw(namespace: str, own: LazyPickle[Any] | None = None) -> None:
    """The service stops; with `own`, unless by now it is reached in another way than this."""
    if own is not None and look_up(namespace) != own:
        return
    key_value.delete(_TABLE, namespace.encode())


def look_up(namespace: str) -> LazyPickle[Any] | None:
    """How the service is reached; None if there is none of this name."""
    found = key_value.get(_TABLE, namespace.encode())
    if found is None:
        return None
    way_in: LazyPickle[Any] = pickle.loads(found)  # noqa: S301 - the cluster's own
    return way_in
