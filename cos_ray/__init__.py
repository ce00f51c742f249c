"""
Event sourcing over gRPC on Ray and Postgres, with Chief of State's contract.

Start with `cos_ray.cli` (what users type) or `cos_ray.bootstrap` (how the parts are put
together). Imports point down only: cli, bootstrap, the doors (cluster, ingress, handlers,
postgres), protocol, the flows (writeside, readside, subscriptions), config and telemetry,
ports, domain.
"""

__version__ = "0.1.0"
