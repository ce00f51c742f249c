"""Read sides as tables, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cos_ray.protocol.pb.cos_ray.v1 import readsides_pb2 as pb

_STYLES = {
    "RUNNING": "green",
    "RETRYING": "yellow",
    "PAUSED": "cyan",
    "STOPPED": "bold red",
    "STALLED": "bold red",
}


def print_offsets(offsets: Mapping[int, int]) -> None:
    """One line for each shard."""
    table = _table(_right("shard"), _right("offset"))
    for shard, offset in sorted(offsets.items()):
        table.add_row(str(shard), str(offset))
    _print(table)


def print_status(read_sides: Sequence[pb.ReadSideStatus]) -> None:
    """A table for each read side."""
    if not read_sides:
        _print("no read side is configured and enabled")
    for read_side in read_sides:
        table = _table(
            _right("shard"), "state", _right("offset"), _right("behind"), _right("for"),
            _right("delivered"), _right("failures"), _right("skipped"), _right("dead letters"), "last error",
            title=escape(read_side.read_side_id),
        )  # fmt: skip
        for shard in read_side.shards:
            table.add_row(*_cells(shard))
        _print(table)


def status_as_json(read_sides: Sequence[pb.ReadSideStatus]) -> list[dict[str, Any]]:
    """Every field, those that are zero too."""
    return [_as_json(read_side) for read_side in read_sides]


def print_letters(letters: Sequence[pb.DeadLetter]) -> None:
    """One line for each dead letter."""
    table = _table(
        "entity", _right("revision"), _right("shard"), _right("offset"), "event", "since", "reason"
    )
    for letter in letters:
        reason = letter.reason if not letter.failures else f"{letter.reason} ({letter.failures} times)"
        table.add_row(
            escape(letter.meta.entity_id),
            str(letter.sequence_number),
            str(letter.shard),
            str(letter.offset),
            escape(letter.event.type_url.rpartition("/")[2]),
            letter.parked_at.ToDatetime().isoformat(sep=" ", timespec="seconds"),
            escape(reason),
        )
    _print(table if letters else "no dead letters")


def letters_as_json(letters: Sequence[pb.DeadLetter]) -> list[dict[str, Any]]:
    """Without the events themselves, whose types are the application's."""
    found = []
    for letter in letters:
        bare = pb.DeadLetter()
        bare.CopyFrom(letter)
        bare.ClearField("event")
        bare.ClearField("state")
        bare.meta.ClearField("data")
        found.append({**_as_json(bare), "event_type": letter.event.type_url.rpartition("/")[2]})
    return found


def _cells(shard: pb.ShardStatus) -> list[str]:
    state = pb.ShardState.Name(shard.state).removeprefix("SHARD_STATE_")
    style = _STYLES.get(state, "magenta")
    return [
        str(shard.shard),
        f"[{style}]{state.lower()}[/]",
        str(shard.offset),
        f"{shard.events_behind:,}{'+' if shard.is_further_behind else ''}",
        _duration(shard.seconds_behind) if shard.events_behind else "",
        f"{shard.deliveries:,}",
        f"{shard.failures:,}",
        f"{shard.skipped:,}",
        f"{shard.dead_letters:,}",
        escape(_error(shard.last_error)) if shard.HasField("last_error") else "",
    ]


def _error(error: pb.ReadSideError) -> str:
    at = error.date.ToDatetime().isoformat(sep=" ", timespec="seconds")
    where = f"{error.entity_id} revision {error.revision_number}: " if error.entity_id else ""
    return f"{at} {where}{error.reason}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=int(seconds)))


def _as_json(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _table(*columns: Column | str, title: str | None = None) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")


def _print(what: object) -> None:
    # Without a terminal each row has one line: the output is for grep.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(what)
