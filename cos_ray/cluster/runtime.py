"""Ray itself: started here for this service alone, or joined."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster.names import LAUNCHER, RELEASE_SUPERVISOR, SHARD_COORDINATOR, namespace_of
from cos_ray.domain.errors import StartFailed

logger = logging.getLogger(__name__)

ENDED_WITHIN = 5.0
"""Seconds in which all actors of the service have to be gone."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster this process is connected to."""

    namespace: str
    is_ours: bool
    """Whether this process started it, and so ends it."""
    nodes: int
    dashboard: str | None
    """Where Ray shows its nodes and actors, if it does."""
    address: str = ""
    """Where other programs join it."""
    metrics: str | None = None
    """Where Prometheus finds the metrics of a cluster of ours."""
    vital: tuple[psutil.Process, ...] = ()
    """The processes without which a cluster of ours is none."""

    def is_lost(self) -> bool:
        """Whether a cluster of ours is gone, so that nothing in it answers any more."""
        return any(not _is_alive(process) for process in self.vital)


def start_or_join(service: str, address: str | None) -> RayCluster:
    """Start Ray on this machine, or join the cluster at `address`. Raises StartFailed."""
    namespace = namespace_of(service)
    common = {"namespace": namespace, "logging_level": logging.ERROR, "log_to_driver": True}
    try:
        if address is None:
            context = ray.init(
                # "local", for without it ray would join whatever cluster runs on this machine.
                address="local",
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                _node_ip_address="127.0.0.1",
                **common,
            )
        else:
            context = ray.init(address=address, **common)
    except (OSError, RayError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StartFailed(f"Ray cannot be {'started' if address is None else 'joined'}: {reason}") from error
    nodes = [node for node in ray.nodes() if node["Alive"]]
    dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
    vital = _vital() if address is None else ()
    return RayCluster(
        namespace,
        address is None,
        len(nodes),
        dashboard,
        ray.get_runtime_context().gcs_address,
        _metrics_of(nodes[0]) if address is None else None,
        vital,
    )


def _metrics_of(node: dict[str, Any]) -> str | None:
    port = node["MetricsExportPort"]
    return f"http://{node['NodeManagerAddress']}:{port}/metrics" if port > 0 else None


def _vital() -> tuple[psutil.Process, ...]:
    children = psutil.Process().children()
    return tuple(process for process in children if process.name() in ("gcs_server", "raylet"))


def _is_alive(process: psutil.Process) -> bool:
    # As a child of this process a dead one is a zombie until someone asks for its exit status.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def stop_actors(cluster: RayCluster, drain: timedelta) -> None:
    """Let the read sides save where they are, then end every actor of the service but who sees to that."""
    actors = _actors(cluster)
    stopping = [actor.stop.remote() for name, actor in actors.items() if name.startswith("read-side:")]
    ray.wait(stopping, num_returns=len(stopping), timeout=drain.total_seconds()) if stopping else None
    deadline = time.monotonic() + ENDED_WITHIN
    while actors and time.monotonic() < deadline:
        # The coordinator of the shard hosts comes first, for it replaces them; then entities: one that is in
        # the middle of an append starts a journal actor anew.
        for name in sorted(actors, key=lambda name: (name != SHARD_COORDINATOR, name)):
            ray.kill(actors[name])
        time.sleep(0.05)
        actors = _actors(cluster)
    if actors:
        logger.warning("actors are left", extra={"names": sorted(actors)[:10], "count": len(actors)})


def _actors(cluster: RayCluster) -> dict[str, ActorHandle[Any]]:
    handles = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == cluster.namespace and actor["name"] not in (LAUNCHER, RELEASE_SUPERVISOR):
            with contextlib.suppress(ValueError):  # gone meanwhile
                handles[actor["name"]] = ray.get_actor(actor["name"], namespace=cluster.namespace)
    return handles


def leave() -> None:
    """Disconnect; a cluster this process started ends with all its processes."""
    ray.shutdown()
