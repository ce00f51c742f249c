"""
Worker processes that Ray starts ahead of need.

Ray keeps a few of its own accord, but starts none in place of those that actors have got; and there is
no public word for it. So each node's raylet is told in the words its own drivers use. What fails here
costs time only: an actor without a warm worker starts a cold one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

import psutil
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated.common_pb2 import Language
from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
from ray.exceptions import RayError

from cos_ray.domain.passivation import NodeId

logger = logging.getLogger(__name__)

MOST = 4
"""Warm workers on one node, at most; each takes 60 MB, and one for each CPU is what Ray itself keeps."""

KEPT_FOR = 60
"""Seconds that they are kept for certain; later, Ray keeps as many as the node has CPUs."""

ANSWERS_WITHIN = 2.0
"""Seconds."""

WARM_WITHIN = 10.0
"""Seconds that they may take to start; whoever waits for them then goes on without."""

LOOK_EVERY = 5.0
"""Seconds between two looks whether one is there."""

_POLLING = 0.1
"""Seconds between two looks for them."""

_IDLE = "ray::IDLE"
"""What Ray calls such a process, for whoever lists processes."""


def living_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def keep_warm(node_id: NodeId, most: int) -> None:
    """
    Have so many on the node, or as many as is of use; blocks.

    Returns when they are there, where that can be seen: on this process's own node.
    """
    node = next((node for node in living_nodes() if node["NodeID"] == node_id), None)
    if node is None:
        return
    is_here = node_id == ray.get_runtime_context().get_node_id()
    wanted = min(most, MOST, max(1, int(node["Resources"].get("CPU", 1))))
    missing = wanted - (idle_workers() if is_here else 0)
    if missing > 0:
        _start(node, missing)
    deadline = time.monotonic() + WARM_WITHIN
    while is_here and idle_workers() < wanted and time.monotonic() < deadline:
        time.sleep(_POLLING)


async def keep_one_warm() -> None:
    """Have one on this process's own node, for what dies next to start again in; until cancelled."""
    node_id = NodeId(ray.get_runtime_context().get_node_id())
    while True:
        try:
            if not await asyncio.to_thread(idle_workers):
                await asyncio.to_thread(keep_warm, node_id, 1)
        except (RayError, psutil.Error) as error:
            logger.info("no workers were started ahead of need", extra={"reason": repr(error)})
        await asyncio.sleep(LOOK_EVERY)


def idle_workers() -> int:
    """How many of this node's workers have nothing to do; called in a worker of the node."""
    return sum(_title(process) == _IDLE for process in psutil.Process(os.getppid()).children())


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return "gone"


def _start(node: dict[str, Any], number: int) -> None:
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
