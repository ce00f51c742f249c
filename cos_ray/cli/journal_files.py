"""
`cos-ray journal export` and `import`: the journal in files, for backups, moves and analysis.

On a terminal a bar shows how far it has come; elsewhere only the last line is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cos_ray.domain.errors import ConfigurationError, CosError
from cos_ray.domain.ids import EntityId, Shard

if TYPE_CHECKING:
    from cos_ray.config.settings import Settings

FAILED = 1
MISCONFIGURED = 2

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="The new Parquet file.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files that were exported.")]
Entity = Annotated[str | None, typer.Option(help="Only this entity's events.")]
ShardNumber = Annotated[int | None, typer.Option("--shard", min=0, help="Only this shard's events.")]
Since = Annotated[
    datetime | None, typer.Option(formats=_TIMES, help="Only events written then or later (UTC).")
]
Until = Annotated[
    datetime | None, typer.Option(formats=_TIMES, help="Only events written earlier than that (UTC).")
]


def export(
    file: File, entity: Entity = None, shard: ShardNumber = None, since: Since = None, until: Until = None
) -> None:
    """
    Write the journal to a Parquet file, one row per event, as it is at this moment.

    All of it, or what the options leave. A service may go on meanwhile. The file appears when it
    is complete, and never takes another one's place. The database is that of the COS_DB_*
    variables, or the embedded one in COS_DATA_DIR.
    """
    settings = _settings()
    from cos_ray.bootstrap.database import journal_database
    from cos_ray.postgres.parquet.exporting import Selection
    from cos_ray.postgres.parquet.exporting import export as write

    selection = Selection(
        entity_id=None if entity is None else EntityId(entity),
        shard=None if shard is None else Shard(shard),
        since=_in_utc(since),
        until=_in_utc(until),
    )
    with _failing_in_one_line(), journal_database(settings, _tell) as database:
        with _bar("Exporting") as moved:
            rows = write(database, selection, file, moved)
        typer.echo(f"{rows:,} events of {database} written to {file}")


def import_(files: Files) -> None:
    """
    Fill an empty journal from exported files: with all of their events, or with none.

    Entities have the same histories afterwards, and shards the same order. A journal that holds
    anything is refused and left as it is. The database is that of the COS_DB_* variables, or the
    embedded one in COS_DATA_DIR.
    """
    settings = _settings()
    from cos_ray.bootstrap.database import journal_database
    from cos_ray.postgres.parquet.importing import import_files

    with _failing_in_one_line(), journal_database(settings, _tell) as database:
        with _bar("Importing") as moved:
            rows = import_files(database, files, moved)
        typer.echo(f"{rows:,} events imported into {database}")


def _settings() -> Settings:
    from cos_ray.config.settings import Settings

    try:
        return Settings.from_environment(os.environ)
    except ConfigurationError as error:
        _fail(error, MISCONFIGURED)


@contextmanager
def _bar(text: str) -> Iterator[Callable[[int, float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=1.0)

        def moved(rows: int, share: float) -> None:
            progress.update(task, completed=share, description=f"{text} {rows:,} events")

        yield moved


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except CosError as error:
        _fail(error, FAILED)


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=timezone.utc) if time is not None and time.tzinfo is None else time


def _fail(error: CosError, status: int) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(status)
