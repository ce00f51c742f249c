"""
What a service asks of a cluster it joins: its name for itself, and Ray Serve for itself.

A launcher that was killed cannot clean up behind it. Whoever comes next under its name does.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster.names import LAUNCHER
from cos_ray.cluster.runtime import RayCluster
from cos_ray.domain.errors import StartFailed

_CONTROLLER = "SERVE_CONTROLLER_ACTOR"

PATIENCE = 30.0
"""Seconds that the sign of a launcher may take to be put up."""


@ray.remote(num_cpus=0)
class Launcher:
    """The sign that a service of this name is being served: it goes when its launcher does."""

    def __init__(self, where: str) -> None:
        self._where = where

    def where(self) -> str:
        """The launcher's process and machine."""
        return self._where


def claim(cluster: RayCluster) -> ActorHandle[Any]:
    """Take the service's name, for as long as this process is connected. Raises StartFailed."""
    try:
        sign: ActorHandle[Any] = Launcher.options(  # type: ignore[attr-defined]
            name=LAUNCHER, namespace=cluster.namespace
        ).remote(f"process {os.getpid()} on {socket.gethostname()}")
        ray.get(sign.where.remote(), timeout=PATIENCE)
    except ValueError as error:
        raise StartFailed(
            f"{cluster.namespace} is already served in this cluster, by {_holder(cluster)}"
        ) from error
    except RayError as error:
        raise StartFailed(f"the cluster starts no actors: {type(error).__name__}") from error
    return sign


def is_left_behind(cluster: RayCluster) -> bool:
    """
    Whether Serve still runs this service's application for a launcher that is gone.

    Raises StartFailed when it runs anything else: its ports are not ours, and of two applications
    plain gRPC clients reach neither.
    """
    try:
        ray.get_actor(_CONTROLLER, namespace="serve")
    except ValueError:
        return False
    applications = sorted(serve.status().applications)
    if applications == [cluster.namespace]:
        return True
    raise StartFailed(
        f"Ray Serve already runs in this cluster, with {', '.join(applications) or 'no application'}: "
        "this service needs it for itself. End it with `serve shutdown`, or join another cluster"
    )


def _holder(cluster: RayCluster) -> str:
    try:
        sign = ray.get_actor(LAUNCHER, namespace=cluster.namespace)
        return str(ray.get(sign.where.remote(), timeout=2))
    except (ValueError, RayError):
        return "a launcher that does not answer"
