"""
Event sourcing over gRPC on Ray and Postgres, with Chief of State's contract.

Start with `cos_ray.cli` (what users type) or `cos_ray.bootstrap` (how the parts are put
together). Imports point down only: cli, bootstrap, the doors (cluster, ingress, handlers,
postgres), protocol, the flows (writeside, readside, subscriptions), config and telemetry,
ports, domain.

What an application's own Python handler needs is here: `Rejected` and `Code` to refuse a command,
`CommandMeta`, `Meta` and `Header` to annotate what it is told; `DeliveryMeta` and `Delivered` for
read handlers. Importing it costs next to nothing.
"""

from cos_ray.domain.errors import Code, Rejected
from cos_ray.domain.messages import CommandMeta, Delivered, DeliveryMeta, Header, Meta

__all__ = ["Code", "CommandMeta", "Delivered", "DeliveryMeta", "Header", "Meta", "Rejected", "__version__"]

__version__ = "0.1.0"
