"""A journal's inspection, for a person to read: the verdict comes last, where the eye is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cos_ray.postgres.report import Odd, ReadSideReport, ReadSideShard, Report, StateTypeChange

_GROUNDS = {
    "declared": "it is declared",
    "allowed": "COS_TYPE_CHANGES allowed it",
    "warned": "COS_TYPE_CHANGES only warns",
    "held": "the journal held it already",
    "not watched": "nobody watched types then",
}

UNCUT = 1_000
"""The width away from a terminal: the output is for grep."""


def print_report(report: Report) -> None:
    """Print it to standard output."""
    console = Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False)
    console.print(_facts(report))
    if report.journal is not None:
        _print_odd(console, "odd events", report.odd_rows)
        _print_odd(console, "odd snapshots", report.odd_snapshots)
        _print_type_changes(console, report.type_changes)
    if report.read_sides:
        console.print(_read_sides(report.read_sides))
    if report.rights_lacking is not None:
        console.print(
            f"[yellow]this role could not serve:[/] {escape(report.rights_lacking)}", soft_wrap=True
        )
    for reason in report.reasons:
        console.print(f"[red]serve would not start:[/] {escape(reason)}", soft_wrap=True)
    if report.would_start:
        console.print("[green]serve would start[/]")


def _facts(report: Report) -> Table:
    table = _table(Column("journal", style="bold", no_wrap=True), "")
    for name, value in _lines(report):
        table.add_row(name, escape(value))
    return table


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    yield "database", f"{report.database}, schema {report.schema}"
    yield "Chief of State's version", str(report.chief_of_state_version or "none")
    yield "our steps", ", ".join(map(str, report.cos_ray_steps)) or "none"
    if report.pending_steps:
        yield "to be done first", f"{', '.join(report.pending_steps)} (by the owner of the tables)"
    if (journal := report.journal) is None:
        return
    yield "shards", _shards(report)
    about = "about " if journal.rows_are_estimated else ""
    yield "events", f"{about}{journal.rows:,}, the newest at offset {journal.newest_offset:,}"
    yield "entities", "not counted (--full does)" if journal.entities is None else f"{journal.entities:,}"
    yield "snapshots", f"{journal.snapshots:,} of {journal.entities_with_snapshots:,} entities"
    yield "written by Chief of State", "yes, in part at least" if report.is_taken_over else "no"
    which = "all of them" if report.is_complete else "the newest (--full looks at all)"
    yield "events looked at", f"{report.rows_examined:,}, {which}"
    for writer in report.waits_for:
        yield "serve would wait for", f"{writer}, which writes to the journal now"


def _shards(report: Report) -> str:
    counts = report.counts_that_explain
    explained = f"the newest tags are explained by {', '.join(map(str, counts)) or 'no number'}"
    if len(counts) == 10:
        explained += " and perhaps more"
    if report.shards is None:
        return f"undecided, tags judged by {report.tags_are_judged_by}; {explained}"
    if report.tags_unexplained:
        explained = f"explains the newest tags but for {report.tags_unexplained} of an entity"
    origin = " by COS_NUM_SHARDS" if report.shards_are_configured else ""
    return f"{report.shards}{origin}; {explained}"


def _print_odd(console: Console, title: str, odd: Sequence[Odd]) -> None:
    if not odd:
        console.print(f"no {title}\n")
        return
    table = _table(title, Column("rows", justify="right"), "for example", "what follows")
    for one in odd:
        table.add_row(escape(one.what), f"{one.rows:,}", escape(one.example), escape(one.effect))
    console.print(table)


def _print_type_changes(console: Console, changes: Sequence[StateTypeChange]) -> None:
    if not changes:
        return
    table = _table(
        "state types changed from", "to", "let pass because", Column("rows", justify="right"), "for example"
    )
    for one in changes:
        table.add_row(
            escape(one.old),
            escape(one.new),
            _GROUNDS.get(one.grounds, one.grounds),
            f"{one.rows:,}",
            escape(one.example),
        )
    console.print(table)


def _read_sides(read_sides: Sequence[ReadSideReport]) -> Table:
    table = _table(
        "read side",
        "configured",
        Column("events behind", justify="right"),
        "paused",
        "what is wrong",
        "offsets",
    )
    for read_side in read_sides:
        paused = [shard.shard for shard in read_side.shards if shard.paused]
        faults = [f"shard {shard.shard}: {shard.fault}" for shard in read_side.shards if shard.fault]
        table.add_row(
            escape(read_side.read_side),
            "yes" if read_side.is_configured else "no",
            f"{read_side.behind:,}",
            escape(f"shards {', '.join(paused)}") if paused else "no",
            escape("; ".join(faults)) or "nothing",
            escape(", ".join(map(_place, read_side.shards))),
        )
    return table


def _place(shard: ReadSideShard) -> str:
    return f"{shard.shard}: {shard.offset or 'none'}"


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
