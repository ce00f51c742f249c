"""
Event sourcing over gRPC on Ray and Postgres, with Chief of State's contract.

Start with `cos_ray.cli` (what users type) or `cos_ray.bootstrap` (how the parts are put
together). Imports point down only: cli, bootstrap, the doors (cluster, ingress, handlers,
postgres), protocol, the flows (writeside, readside, subscriptions), config and telemetry,
ports, domain.

What an application's own Python handler needs is here: `Rejected` and `Code` to refuse a command,
`CommandMeta`, `Meta` and `Header` to annotate what it is told; `DeliveryMeta` and `Delivered` for
read handlers. Importing it costs next to nothing. Programs of the same Ray cluster reach a running
service by `connect`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cos_ray.domain.errors import CallFailed, Code, Rejected
from cos_ray.domain.messages import CommandMeta, Delivered, DeliveryMeta, Header, Meta

if TYPE_CHECKING:
    from cos_ray.bootstrap.connection import Connection

__all__ = [
    "CallFailed",
    "Code",
    "CommandMeta",
    "Delivered",
    "DeliveryMeta",
    "Header",
    "Meta",
    "Rejected",
    "__version__",
    "connect",
]

__version__ = "0.1.0"


def connect(service: str = "chiefofstate") -> Connection:
    """
    A running service in the Ray cluster this program is connected to, by its COS_SERVICE_NAME.

    Its `process` and `state` are to be awaited, and go straight to the entities' actors. Raises
    StartFailed if this program is connected to no cluster, or no such service runs in it.
    """
    # By name: what handlers import must not bring all of the service along.
    connection: Connection = import_module("cos_ray.bootstrap.connection").connect(service)
    return connection
