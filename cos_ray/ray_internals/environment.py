"""
What Ray must find in the environment before it is imported, on every node.

Ray and Serve read these at import; setting them later does nothing. This module therefore
imports neither. An operator's own values win.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping


def ray_environment(given: Mapping[str, str], handler_module: str) -> dict[str, str]:
    """The variables to add to `given`; `handler_module` calls the write handler."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's workers would otherwise run at low priority.
        "RAY_worker_niceness": "0",
        # What Serve's own processes log goes the way of all lines, to the launcher, and not to files alone.
        "RAY_SERVE_LOG_TO_STDERR": "1",
        "OMP_NUM_THREADS": "1",
        # What Ray would note of every call, for its dashboard and its logs.
        "RAY_task_events_report_interval_ms": "0",
        "RAY_event_stats": "0",
        # Started by `uv run`, Ray would start each worker through it again.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # Ray and Postgres are forked from processes that use gRPC.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        # gRPC's older way of waiting for sockets: a message passes one thread less on its way from and to
        # Python, which spares an eighth of what a call costs its server.
        "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
        # gRPC's own lines: one for each call that it refuses.
        "GRPC_VERBOSITY": "NONE",
        # The ingress, Serve's router and Ray's calls share one event loop.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        # For Serve's own proxies (COS_INGRESS_LISTENER=serve).
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(256 * 1024 * 1024),
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
        **_preloaded(handler_module),
    }
    return {name: value for name, value in wanted.items() if name not in given}


def closed_cluster(given: Mapping[str, str]) -> dict[str, str]:
    """
    The variables to add to `given` so that nobody else gets into a Ray cluster that is started here.

    Whoever gets in runs code as this service: by a job sent to the dashboard or to the agent beside it, as
    a driver, or by what Serve's replicas unpickle. Without a token Ray takes all of them in. A cluster that
    is joined says for itself whom it takes in.
    """
    wanted = {
        # Ray's name for a cluster of this machine alone. Unset, Ray replaces the loopback by the machine's
        # outward address, and listens there.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
    }
    has_token = given.get("RAY_AUTH_TOKEN") or given.get("RAY_AUTH_TOKEN_PATH")
    # With this alone, an operator means the token that Ray keeps in the home directory.
    if not has_token and not given.get("RAY_AUTH_MODE"):
        # In the environment of our processes only, which none but their user and root can read.
        wanted["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {name: value for name, value in wanted.items() if not given.get(name)}


def _preloaded(handler_module: str) -> dict[str, str]:
    """Modules that each new worker imports before it is given an entity: half of its start."""
    modules = (
        "cos_ray.ray_internals.worker_sleep_preload",
        "cos_ray.cluster.entity_actor",
        handler_module,
        "cos_ray.cluster.journal_actor",
    )
    return {"RAY_preload_python_modules": ",".join(modules)}
