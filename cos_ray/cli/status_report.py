"""The service as a whole, as tables and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cos_ray.protocol.pb.cos_ray.v1 import operations_pb2 as pb
from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2

MOST_SHOWN = 10
"""How many entities with processes of their own are named in a table."""


def print_status(
    status: pb.GetServiceStatusResponse, rate: float, read_sides: Sequence[readsides_pb2.ReadSideStatus]
) -> None:
    """A summary, and a table for each kind of part."""
    console = Console()
    in_hand = sum(replica.in_hand for replica in status.ingress)
    console.print(
        f"[bold]{escape(status.service)}[/bold], {status.placement}: {status.live_entities:,} entities "
        f"awake, {rate:,.0f} commands/s, {in_hand:,} in progress"
    )
    for part in status.silent:
        console.print(f"[bold red]{escape(part)} does not answer[/bold red]")
    console.print(_nodes(status))
    console.print(_ingress(status))
    if status.shard_hosts:
        console.print(_shard_hosts(status))
    if status.placement == "auto":
        console.print(_homes(status))
    if read_sides:
        console.print(_read_sides(read_sides))


def as_dict(
    status: pb.GetServiceStatusResponse, rate: float, read_sides: Sequence[readsides_pb2.ReadSideStatus]
) -> dict[str, Any]:
    """Every field, those that are zero too."""
    shown: dict[str, Any] = MessageToDict(
        status, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    behind = {read_side.read_side_id: _behind(read_side) for read_side in read_sides}
    return {**shown, "commands_per_second": round(rate, 1), "read_side_events_behind": behind}


def _nodes(status: pb.GetServiceStatusResponse) -> Table:
    table = _table("node", _right("CPUs"), _right("entities with a process"))
    for node in status.nodes:
        table.add_row(escape(node.address), f"{node.cpus:g}", f"{node.live_entities:,}")
    return table


def _ingress(status: pb.GetServiceStatusResponse) -> Table:
    table = _table("ingress", _right("process"), _right("in progress"), _right("commands"))
    for replica in status.ingress:
        table.add_row(escape(replica.node), str(replica.pid), f"{replica.in_hand:,}", f"{replica.commands:,}")
    return table


def _shard_hosts(status: pb.GetServiceStatusResponse) -> Table:
    table = _table(
        "shard host", "node", _right("process"), _right("shards"), _right("entities"), _right("memory"),
        _right("in progress"), _right("commands"), _right("woken"), _right("passivated"),
    )  # fmt: skip
    for host in status.shard_hosts:
        counts = (host.in_progress, host.commands, host.activations, host.passivations)
        table.add_row(
            escape(host.host),
            escape(host.node),
            str(host.pid),
            str(host.shards),
            f"{host.live_entities:,}",
            f"{host.memory_bytes / 1e6:,.1f} MB",
            *(f"{count:,}" for count in counts),
        )
    return table


def _homes(status: pb.GetServiceStatusResponse) -> Table:
    """Where entities live, and why."""
    table = _table("where entities live", _right("entities"), "which, or why")
    named = sorted(each for host in status.shard_hosts for each in host.entities_with_process)
    shown = ", ".join(named[:MOST_SHOWN]) + (" ..." if len(named) > MOST_SHOWN else "")
    own = sum(host.own_processes for host in status.shard_hosts)
    table.add_row("processes of their own", f"{own:,}", escape(shown))
    reasons: Counter[str] = Counter()
    for host in status.shard_hosts:
        for shared in host.shared:
            reasons[shared.why] += shared.entities
    for why, count in reasons.most_common():
        table.add_row("shard hosts", f"{count:,}", escape(why))
    return table


def _read_sides(read_sides: Sequence[readsides_pb2.ReadSideStatus]) -> Table:
    table = _table("read side", "states", _right("events behind"), _right("for"))
    for read_side in read_sides:
        states = sorted({_name(shard.state) for shard in read_side.shards})
        longest = max((shard.seconds_behind for shard in read_side.shards), default=0.0)
        table.add_row(
            escape(read_side.read_side_id),
            ", ".join(states),
            f"{_behind(read_side):,}",
            str(timedelta(seconds=round(longest))),
        )
    return table


def _name(state: readsides_pb2.ShardState) -> str:
    return readsides_pb2.ShardState.Name(state).removeprefix("SHARD_STATE_").lower()


def _behind(read_side: readsides_pb2.ReadSideStatus) -> int:
    return sum(shard.events_behind for shard in read_side.shards)


def _right(header: str) -> Column:
    return Column(header, justify="right")


def _table(*columns: str | Column) -> Table:
    return Table(*columns, box=box.SIMPLE)
