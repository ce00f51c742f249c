"""
`cos-ray status` and `cos-ray resize`: the service as a whole.

They talk gRPC to a running service. Exit status: 0 done, 1 the service refused or cannot be
reached, 2 mistyped.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import click
import typer

if TYPE_CHECKING:
    from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import OperationsServiceStub

Host = Annotated[str, typer.Option(help="Where the service listens.", envvar="COS_ADDRESS")]
Port = Annotated[int, typer.Option(help="Its gRPC port.", envvar="COS_PORT", min=1, max=65535)]

HOST, PORT = "127.0.0.1", 9000

BETWEEN_LOOKS = 1.0
"""Seconds between two looks: commands per second are counted from one to the next."""

ANSWER_WITHIN = 20.0
"""Seconds in which the service answers, if it ever does."""


def status(
    host: Host = HOST,
    port: Port = PORT,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """
    Show how the service is.

    Its nodes, its entities and where they live, commands per second and in progress, and how far
    behind read sides are.
    """
    from cos_ray.cli.status_report import as_dict, print_status

    looks = _Looks(host, port)
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
                click.clear()
            print_status(now, rate, looks.read_sides())
        if not watch:
            return


def resize(
    hosts: Annotated[
        int, typer.Argument(help="How many; 0: as many as suit the cluster.", min=0, max=10_000)
    ],
    host: Host = HOST,
    port: Port = PORT,
) -> None:
    """
    Have so many shard hosts from now on (sharded placement).

    Entities move while commands go on. The next start of the service goes by COS_SHARD_ACTORS again.
    """
    from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import ResizeShardHostsRequest

    reply = _call(_stub(host, port).ResizeShardHosts, ResizeShardHostsRequest(hosts=hosts))
    typer.echo(f"shard hosts: {', '.join(reply.hosts)}")


class _Looks:
    """What one service answers."""

    def __init__(self, host: str, port: int) -> None:
        from cos_ray.cli.readside_client import ReadSideClient

        self._stub = _stub(host, port)
        self._read_sides = ReadSideClient(host, port)

    def look(self) -> Any:
        from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import GetServiceStatusRequest

        return _call(self._stub.GetServiceStatus, GetServiceStatusRequest())

    def read_sides(self) -> Any:
        return self._read_sides.status("")


def _commands(status: Any) -> int:
    return sum(replica.commands for replica in status.ingress)


def _stub(host: str, port: int) -> OperationsServiceStub:
    import grpc

    from cos_ray.handlers.targets import address
    from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import OperationsServiceStub

    channel = grpc.insecure_channel(address(host, port), options=[("grpc.enable_http_proxy", 0)])
    return OperationsServiceStub(channel)


def _call(method: Any, request: Any) -> Any:
    import grpc

    try:
        return method(request, timeout=ANSWER_WITHIN)
    except grpc.RpcError as error:
        _fail(f"{error.code().name}: {error.details()}")


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(1)
