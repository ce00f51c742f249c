"""
`cos-ray status` and `cos-ray resize`: the service as a whole.

They talk gRPC to a running service. Exit status: 0 done, 1 the service refused or cannot be
reached, 2 mistyped, or its token cannot be used.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cos_ray.cli.running_service import RunningService, clear_screen, dials

if TYPE_CHECKING:
    from cos_ray.cli.service_client import ServiceClient

BETWEEN_LOOKS = 1.0
"""Seconds between two looks: commands per second are counted from one to the next."""

ANSWER_WITHIN = 20.0
"""Seconds in which the service answers, if it ever does."""


@dials
def status(
    service: RunningService,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """
    Show how the service is.

    Its nodes, its entities and where they live, commands per second and in progress, and how far
    behind read sides are.
    """
    from cos_ray.cli.status_report import as_dict, print_status

    looks = _Looks(service.client())
    before, at = looks.look(), time.monotonic()
    while True:
        time.sleep(BETWEEN_LOOKS)
        now, since, at = looks.look(), at, time.monotonic()
        rate = max(0, _commands(now) - _commands(before)) / (at - since)
        before = now
        if as_json:
            typer.echo(json.dumps(as_dict(now, rate, looks.read_sides()), indent=None if watch else 2))
        else:
            if watch:
                clear_screen()
            print_status(now, rate, looks.read_sides())
        if not watch:
            return


@dials
def resize(
    service: RunningService,
    hosts: Annotated[
        int, typer.Argument(help="How many; 0: as many as suit the cluster.", min=0, max=10_000)
    ],
) -> None:
    """
    Have so many shard hosts from now on (auto or sharded placement).

    Entities move while commands go on. The next start of the service goes by COS_SHARD_ACTORS again.
    """
    client = service.client()
    # Only now: gRPC takes a while to import.
    from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import ResizeShardHostsRequest
    from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import OperationsServiceStub

    method = OperationsServiceStub(client.channel).ResizeShardHosts
    reply = client.call(method, ResizeShardHostsRequest(hosts=hosts), ANSWER_WITHIN)
    typer.echo(f"shard hosts: {', '.join(reply.hosts)}")


class _Looks:
    """What one service answers."""

    def __init__(self, service: ServiceClient) -> None:
        from cos_ray.cli.readside_client import ReadSideClient
        from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import OperationsServiceStub

        self._service = service
        self._operations = OperationsServiceStub(service.channel)
        self._read_sides = ReadSideClient(service)

    def look(self) -> Any:
        from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import GetServiceStatusRequest

        return self._service.call(self._operations.GetServiceStatus, GetServiceStatusRequest(), ANSWER_WITHIN)

    def read_sides(self) -> Any:
        return self._read_sides.status("")


def _commands(status: Any) -> int:
    return sum(replica.commands for replica in status.ingress)
