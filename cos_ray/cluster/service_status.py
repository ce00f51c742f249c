"""Asks every part of the service how it is, each for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cos_ray.cluster.names import PROCESS_COORDINATOR
from cos_ray.cluster.serve_app import own_application
from cos_ray.cluster.shard_hosts import ShardHostActors
from cos_ray.domain.errors import EntityLost, NotSharded
from cos_ray.domain.shard_assignment import HostId
from cos_ray.domain.status import IngressStatus, NodeStatus, ServiceStatus, ShardHostStatus

ANSWER_WITHIN = 2.0
"""Seconds for a part to answer; then it counts as silent."""

_Answer = TypeVar("_Answer")


class ServiceOverview:
    """`ports.Operations` of a service in this cluster."""

    def __init__(self, service: str, namespace: str, placement: str) -> None:
        """`placement`: auto, dedicated or sharded."""
        self._service = service
        self._namespace = namespace
        self._placement = placement
        self._hosts = None if placement == "dedicated" else ShardHostActors(namespace)
        self._replicas: Any = None

    async def status(self) -> ServiceStatus:
        """See `ports.Operations`."""
        silent: list[str] = []
        nodes, ingress, hosts = await asyncio.gather(
            self._nodes(silent), self._ingress(silent), self._shard_hosts(silent)
        )
        return ServiceStatus(self._service, self._placement, nodes, ingress, hosts, tuple(silent))

    async def resize(self, hosts: int | None) -> Sequence[HostId]:
        """See `ports.Operations`."""
        if self._hosts is None:
            raise NotSharded
        return (await self._hosts.resize(hosts)).hosts

    async def _nodes(self, silent: list[str]) -> tuple[NodeStatus, ...]:
        found = await _in_time("the head node", asyncio.to_thread(ray.nodes), silent) or []
        counts: Mapping[str, int] = {}
        if self._placement != "sharded":
            counts = await _in_time("the entities' coordinator", self._counts(), silent) or {}
        return tuple(
            NodeStatus(
                node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0), counts.get(node["NodeID"], 0)
            )
            for node in found
            if node["Alive"]
        )

    async def _counts(self) -> Mapping[str, int]:
        coordinator = await asyncio.to_thread(ray.get_actor, PROCESS_COORDINATOR, namespace=self._namespace)
        counts: Mapping[str, int] = await coordinator.counts.remote()
        return counts

    async def _ingress(self, silent: list[str]) -> tuple[IngressStatus, ...]:
        answers = await _in_time("the ingress", self._broadcast(), silent) or []
        for _ in (answer for answer in answers if not isinstance(answer, IngressStatus)):
            silent.append("a replica of the ingress")
        return tuple(answer for answer in answers if isinstance(answer, IngressStatus))

    async def _broadcast(self) -> Sequence[object]:
        if self._replicas is None:
            self._replicas = await asyncio.to_thread(serve.get_app_handle, own_application())
        answers = self._replicas.broadcast("own_status")
        found: Sequence[object] = await answers.results_async(timeout_s=ANSWER_WITHIN, return_exceptions=True)
        return found

    async def _shard_hosts(self, silent: list[str]) -> tuple[ShardHostStatus, ...]:
        if self._hosts is None:
            return ()
        assignment = await _in_time("the shard hosts' coordinator", self._hosts.assignment(), silent)
        if assignment is None:
            return ()
        asked = [
            _in_time(f"shard host {host}", self._hosts.status(host), silent) for host in assignment.hosts
        ]
        return tuple(status for status in await asyncio.gather(*asked) if status is not None)


async def _in_time(part: str, answer: Awaitable[_Answer], silent: list[str]) -> _Answer | None:
    try:
        return await asyncio.wait_for(answer, ANSWER_WITHIN)
    except (asyncio.TimeoutError, EntityLost, RayError, RayServeException, ValueError):
        silent.append(part)
        return None
