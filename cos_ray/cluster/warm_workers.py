"""
Worker processes that Ray starts ahead of need.

Ray keeps a few of its own accord, but starts none in place of those that actors have got; and there is
no public word for it. So each node's raylet is told in the words its own drivers use. What fails here
costs time only: an actor without a warm worker starts a cold one.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated.common_pb2 import Language
from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

from cos_ray.domain.passivation import NodeId

logger = logging.getLogger(__name__)

MOST = 4
"""Warm workers on one node, at most; each takes 60 MB, and one for each CPU is what Ray itself keeps."""

KEPT_FOR = 60
"""Seconds that they are kept for certain; later, Ray keeps as many as the node has CPUs."""

ANSWERS_WITHIN = 2.0
"""Seconds."""


def living_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def start_workers(node_id: NodeId, most: int) -> None:
    """Start so many on the node, or as many as is of use; returns before they have started."""
    node = next((node for node in living_nodes() if node["NodeID"] == node_id), None)
    if node is None:
        return
    number = min(most, MOST, max(1, int(node["Resources"].get("CPU", 1))))
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    request = PrestartWorkersRequest(
        language=Language.PYTHON, num_workers=number, keep_alive_duration_secs=KEPT_FOR
    )
    try:
        NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=ANSWERS_WITHIN)
    except Exception as error:  # noqa: BLE001 - of gRPC, which is met at other doors; and it only costs time
        logger.info("no workers were started ahead of need", extra={"reason": repr(error)})
    finally:
        channel.close()
