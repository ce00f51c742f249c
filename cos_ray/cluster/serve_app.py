"""
The ingress on Ray Serve: exactly one application with one ingress class.

With two applications Serve would want clients to name the one they mean, and plain gRPC
clients do not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingContext, AutoscalingPolicy, HTTPOptions, ProxyLocation, gRPCOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, LoggingConfig

from cos_ray.cluster.replicas import drain
from cos_ray.domain.errors import StartFailed

DELETED_WITHIN = 30.0
"""Seconds in which an application's requests and replicas have to end; then they are left to Serve."""

TARGET_ONGOING_REQUESTS = 100
"""Requests in hand of each replica from which on Serve adds another: most of them only wait."""

HEALTH_CHECK_EVERY = 1.0
"""Seconds between two questions of Serve whether a replica is well."""

HEALTHY_WITHIN = 10.0
"""Seconds that a replica may take to answer one of them; three in vain end it."""

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
    """What registers the services with Serve's own proxies."""
    listens: bool = True
    """Whether the replicas open the ports themselves; if not, Serve's proxies do."""
    replicas: int = 1
    """How many replicas there are, or the fewest of them."""
    most_replicas: int | None = None
    """The most, if Serve is to add some under load."""
    max_ongoing_requests: int = 10_000
    """How many requests a replica has in hand at once; most of them wait for a handler."""
    grace: float = 8.0
    """Seconds that a replica which is to end has for that; then its requests are cut."""


def start_ingress(ingress_class: type, build: Callable[[], Awaitable[Any]], options: IngressOptions) -> None:
    """
    Start Serve in this cluster and the application on it; returns once it takes requests.

    Raises StartFailed if it never does.

    The class answers gRPC by its methods, and HTTP by what its `__serve_build_asgi_app__` builds.
    """
    # In this process Serve tells of every step; the launcher has its own way to.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(**_proxies(options), logging_config=_quiet())
    application = bound(ingress_class, build, options)
    target = serve.RunTarget(application, name=options.application, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    while (overview := _status_of(options.application)) is None or not _is_running(overview):
        time.sleep(_POLLING)


def bound(
    ingress_class: type, build: Callable[[], Awaitable[Any]], options: IngressOptions
) -> serve.Application:
    """The application, for whoever deploys it; where it listens is Serve's own configuration."""
    deployment = serve.deployment(
        ended_by_serve(ingress_class) if options.listens else serve.ingress()(ingress_class),
        name="Ingress",
        **_number_of_replicas(options),
        max_ongoing_requests=options.max_ongoing_requests,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=options.grace,
        # A replica goes only when the one that is to take its place serves, also if it is the only one.
        max_surge_percent=100,
        # How soon a replica that died, or hangs, is missed.
        health_check_period_s=HEALTH_CHECK_EVERY,
        health_check_timeout_s=HEALTHY_WITHIN,
        ray_actor_options={"num_cpus": 0},
        logging_config=_quiet(),
    )
    application: serve.Application = deployment.bind(build)
    return application


def ended_by_serve(ingress_class: type) -> type:
    """The class, with what Serve calls and awaits when a replica is to end."""

    class Replica(ingress_class):  # type: ignore[misc]
        async def __del__(self) -> None:
            await self.end()

    Replica.__name__ = ingress_class.__name__
    return Replica


def _proxies(options: IngressOptions) -> dict[str, Any]:
    """Serve's own way in, if it is wanted."""
    if options.listens:
        return {"proxy_location": ProxyLocation.Disabled}
    return {
        "grpc_options": gRPCOptions(
            port=options.grpc_port, grpc_servicer_functions=list(options.servicer_functions)
        ),
        "http_options": HTTPOptions(host=options.host, port=options.http_port),
    }


class Refused(RayServeException):  # type: ignore[misc]
    """Not deployed. Of an exception of this kind Serve tells the text, of others the traceback."""


def own_application() -> str:
    """The application of this replica."""
    name: str = serve.get_replica_context().app_name
    return name


def _quiet() -> LoggingConfig:
    # Per-request lines cost more than the requests; what fails is logged where it fails.
    return LoggingConfig(enable_access_log=False, log_level="WARNING")


def _number_of_replicas(options: IngressOptions) -> dict[str, Any]:
    if options.most_replicas is None:
        return {"num_replicas": options.replicas}
    scaling: dict[str, Any] = {"min_replicas": options.replicas, "max_replicas": options.most_replicas}
    if options.listens:
        scaling["policy"] = AutoscalingPolicy(policy_function="cos_ray.cluster.serve_app:replicas_wanted")
    else:
        scaling["target_ongoing_requests"] = TARGET_ONGOING_REQUESTS
    return {"autoscaling_config": scaling}


def replicas_wanted(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """How many replicas the commands in hand call for, and what is to be remembered of it: nothing."""
    in_hand = sum((context.aggregated_metrics or {}).get("in_hand", {}).values())
    wanted = math.ceil(in_hand / TARGET_ONGOING_REQUESTS)
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return max(least, min(most, wanted)), {}


def stop_ingress(application: str, *, listens: bool = True) -> None:
    """
    End streams, let requests in progress end, then stop the application and Serve.

    `listens`: see `IngressOptions`. Replicas that listen end their streams themselves.
    """
    if not listens:
        try:
            drain(application)
        except Exception as error:  # noqa: BLE001 - it may not have come up at all; then there is none
            logger.info("the ingress could not be drained", extra={"reason": str(error)})
    serve.delete(application, _blocking=False)
    deadline = time.monotonic() + DELETED_WITHIN
    while _status_of(application) is not None and time.monotonic() < deadline:
        time.sleep(_POLLING)
    # Serve ends its controller by ray.kill, and Ray prints a line about the death it just caused.
    with contextlib.redirect_stdout(io.StringIO()):
        serve.shutdown()


_POLLING = 0.05
"""Seconds between two looks. Serve's own waiting looks once a second, and so wastes half of one each time."""


def _status_of(application: str) -> ApplicationStatusOverview | None:
    return serve.status().applications.get(application)


def _is_running(overview: ApplicationStatusOverview) -> bool:
    if overview.status is ApplicationStatus.DEPLOY_FAILED:
        raise StartFailed(f"the ingress cannot be started: {overview.message}")
    return bool(overview.status is ApplicationStatus.RUNNING)
