"""The configuration shown as a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.markup import escape

from cos_ray.config.description import Row, described
from cos_ray.config.settings import Settings

FULL = ("value", "from", "default", "meaning")
STACKED = ("value and meaning",)

ROOMY = 150
"""From this width on a terminal has room for all columns side by side."""

UNCUT = 400
"""A width at which no row of the table is wrapped."""


def shown(environment: Mapping[str, str]) -> None:
    """Print a table of all variables but those of read sides. Raises ConfigurationError on a wrong one."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    rows = described(Settings.from_environment(environment), environment)
    # Without a terminal each variable has one line: the output is for grep.
    console = Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False)
    heads, cells = (FULL, _full) if console.width >= ROOMY else (STACKED, _stacked)
    table = Table(Column("variable", no_wrap=True), *heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for group, members in groupby(rows, key=lambda row: row.group):
        table.add_section()
        table.add_row(group, style="bold cyan")
        for row in members:
            style = None if row.source == "default" else "bold"
            table.add_row(row.variable, *map(escape, cells(row)), style=style)
    console.print(table)


def _full(row: Row) -> Sequence[str]:
    return row.value, row.source, row.default, row.meaning


def _stacked(row: Row) -> Sequence[str]:
    """For a narrow terminal: one under the other, rather than columns too narrow to read."""
    origin = f"({row.source}; default: {row.default or 'none'})"
    return (f"{row.value} {'' if row.source == 'default' else origin}\n{row.meaning}".lstrip(),)
