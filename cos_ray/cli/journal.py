"""
The commands about a journal: look it over before taking it over, and bring its schema up to date.

They work on the database of the COS_DB_* variables, whether a service runs on it or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from cos_ray.domain.errors import ConfigurationError, CosError, StartFailed

if TYPE_CHECKING:
    from cos_ray.postgres.database import Database

FAILED = 1
MISCONFIGURED = 2

T = TypeVar("T")

journal = typer.Typer(
    help="Look a journal over, bring its schema up to date, write it to files or fill it from them.",
    no_args_is_help=True,
)


@journal.command()
def check(
    full: Annotated[bool, typer.Option("--full", help="Look at every row, not only the newest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """
    Say what is in a database, what is odd about it, and whether `cos-ray serve` would start on it.

    Reads only: a role with the right to select will do. Knows the read sides that are configured,
    and COS_NUM_SHARDS. Exit status 0 if the service would start, 1 if not.
    """
    from rich.console import Console

    from cos_ray.cli.journal_report import print_report
    from cos_ray.config.environment import with_file
    from cos_ray.config.read_sides import read_sides_from
    from cos_ray.config.settings import Settings
    from cos_ray.postgres.inspection import inspect

    told = _or_fail(lambda: with_file(os.environ))
    shards = _or_fail(lambda: Settings.from_environment(told).entities.num_shards)
    read_sides = [config.read_side_id for config in _or_fail(lambda: read_sides_from(told))]
    database = _database()
    console = Console(stderr=True)
    showing = console.status("looking at the journal") if console.is_terminal else nullcontext()
    with showing as status:

        def show(rows: int) -> None:
            if status is not None:
                status.update(f"looking at the journal: {rows:,} rows")

        report = _or_fail(lambda: inspect(database, shards, read_sides, full=full, on_progress=show))
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        print_report(report)
    raise typer.Exit(0 if report.would_start else FAILED)


@journal.command()
def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """
    Bring a database's schema up to date, as `cos-ray serve` does when it starts.

    For a service whose own role may not change the schema: run this as the owner of the tables,
    then deploy/roles.sql. Prints the steps, one a line.
    """
    from cos_ray.postgres import migrations

    database = _database()
    steps = _or_fail(lambda: migrations.planned(database) if dry_run else migrations.migrate(database))
    for step in steps:
        typer.echo(f"{'would do' if dry_run else 'done'}: {step}")
    if not steps:
        typer.echo("up to date: there is nothing to do")


def _database() -> Database:
    from cos_ray.bootstrap.database import external_database
    from cos_ray.config.settings import Settings

    return _or_fail(lambda: external_database(Settings.from_environment(os.environ).database))


def _or_fail(attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except ConfigurationError as error:
        _fail(error, MISCONFIGURED)
    except StartFailed as error:
        _fail(error, FAILED)


def _fail(error: CosError, status: int) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(status)
