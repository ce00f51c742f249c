"""
The ingress on Ray Serve: exactly one application with one ingress class.

With two applications Serve would want clients to name the one they mean, and plain gRPC
clients do not.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.schema import LoggingConfig

from cos_ray.cluster.replicas import drain

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngressOptions:
    """Where the ingress listens and how it is spread."""

    application: str
    """The Serve application's name."""
    host: str
    grpc_port: int
    http_port: int
    servicer_functions: Sequence[str]
    replicas: int = 1
    max_ongoing_requests: int = 10_000
    """How many requests a replica has in hand at once; most of them wait for a handler."""


def start_ingress(ingress_class: type, build: Callable[[], Awaitable[Any]], options: IngressOptions) -> None:
    """
    Start Serve in this cluster and the application on it; returns once it takes requests.

    The class answers gRPC by its methods, and HTTP by what its `__serve_build_asgi_app__` builds.
    """
    # In this process Serve tells of every step; the launcher has its own way to.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Per-request lines cost more than the requests; what fails is logged where it fails.
    logging_config = LoggingConfig(enable_access_log=False, log_level="WARNING")
    serve.start(
        grpc_options=gRPCOptions(
            port=options.grpc_port,
            grpc_servicer_functions=list(options.servicer_functions),
        ),
        http_options=HTTPOptions(host=options.host, port=options.http_port),
        logging_config=logging_config,
    )
    deployment = serve.deployment(
        serve.ingress()(ingress_class),
        name="Ingress",
        num_replicas=options.replicas,
        max_ongoing_requests=options.max_ongoing_requests,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=8,
        ray_actor_options={"num_cpus": 0},
        logging_config=logging_config,
    )
    serve.run(deployment.bind(build), name=options.application, route_prefix="/")


def stop_ingress(application: str) -> None:
    """End streams, let requests in progress end, then stop the application and Serve."""
    try:
        drain(application)
    except Exception as error:  # noqa: BLE001 - it may not have come up at all; then there is none
        logger.info("the ingress could not be drained", extra={"reason": str(error)})
    serve.delete(application)
    # Serve ends its controller by ray.kill, and Ray prints a line about the death it just caused.
    with contextlib.redirect_stdout(io.StringIO()):
        serve.shutdown()
