"""
The commands of `cos-ray`.

Exit status: 0 all went well, 1 the service could not start or something is wrong with what was
checked, 2 the configuration is wrong (or the command was mistyped).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cos_ray import __version__
from cos_ray.cli import journal_files
from cos_ray.cli.journal import journal
from cos_ray.cli.readside import readside
from cos_ray.cli.status import resize, status
from cos_ray.domain.errors import ConfigurationError, CosError, StartFailed

if TYPE_CHECKING:
    from cos_ray.bootstrap.configuration import Configuration

FAILED = 1
MISCONFIGURED = 2

app = typer.Typer(
    name="cos-ray",
    help="Event sourcing over gRPC, on Ray and Postgres.",
    epilog="Try `cos-ray demo` first. Every variable: `cos-ray config show`.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help, which wraps as written and needs no rich.
    rich_markup_mode=None,
    # An unforeseen error shows Python's own traceback, without the values of variables: some are secrets.
    pretty_exceptions_enable=False,
)
config = typer.Typer(
    help="Look at the configuration, or check it, without starting anything.", no_args_is_help=True
)
app.add_typer(config, name="config")
journal.command("export")(journal_files.export)
journal.command("import")(journal_files.import_)
app.add_typer(journal, name="journal")
app.command("status")(status)
app.command("resize")(resize)
app.add_typer(readside, name="readside")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cos-ray {__version__}")
        raise typer.Exit


@app.callback()
def cos_ray(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Event sourcing over gRPC, on Ray and Postgres."""


@app.command()
def serve() -> None:
    """
    Start the service here, or join the Ray cluster of RAY_ADDRESS.

    Everything is configured by environment variables, or by a YAML file of the same names that
    COS_CONFIG points to. The most important:

    \b
    COS_WRITE_SIDE_HOST    host of your write handler (required)
    COS_WRITE_SIDE_PORT    port of your write handler (required)
    COS_WRITE_SIDE_HANDLER instead of both: a Python class, package.module:Class
    COS_PORT               port for gRPC (9000)
    COS_DB_HOST            the database; unset: an embedded one is started
    COS_DB_PASSWORD        its password, or COS_DB_PASSWORD_FILE
    COS_DATA_DIR           where the embedded database keeps its data
    COS_READ_SIDE_ENABLED  whether read sides run (false)
    COS_READ_SIDE_CONFIG   a YAML file of read sides, or a folder of such
    LOG_LEVEL, LOG_STYLE   DEBUG, INFO, WARN, ERROR; JSON, STANDARD, SIMPLE

    `cos-ray config show` lists them all. The service is ready when its gRPC health check answers
    SERVING; SIGTERM or Ctrl-C ends it, commands under way first.
    """  # noqa: D301 - the backslash is a sign of the help's, and no raw text
    environment = dict(os.environ)
    configuration = _checked(environment, MISCONFIGURED)
    # Only now: Ray takes seconds to import, and a wrong variable is to be told at once.
    from cos_ray.bootstrap.service import serve as start
    from cos_ray.cli.progress import Progress
    from cos_ray.telemetry.logs import LogSettings

    settings = configuration.settings
    logs = LogSettings(settings.logs.level.value, settings.logs.style.value, settings.service.name)
    logs.apply()
    configuration.log_notices()
    try:
        was_told_to_end = start(
            settings, configuration.read_sides, logs, configuration.traces, Progress(), os.environ
        )
    except ConfigurationError as error:
        _fail(error, MISCONFIGURED)
    except StartFailed as error:
        _fail(error, FAILED)
    if not was_told_to_end:
        sys.stdout.flush()
        # The same process, as whoever watches it sees it, with nothing left of Ray in it.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


@app.command()
def demo() -> None:
    """
    See it work: a small bank on a database of its own, in this terminal, in about a minute.

    Accounts are opened and used, one of their processes is killed, the service is restarted, and
    nothing is lost. Needs no configuration, and leaves nothing behind.
    """
    from cos_ray.cli.demo import run

    raise typer.Exit(run())


@app.command()
def protoset(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - for standard output.")],
) -> None:
    """
    Write the service's protos, compiled, with all they import.

    For clients that do not use reflection: `grpcurl -protoset FILE ...`, gateways, code generators.
    """
    from cos_ray.protocol.protoset import protoset as compiled

    if str(output) == "-":
        sys.stdout.buffer.write(compiled())
        return
    try:
        output.write_bytes(compiled())
    except OSError as error:
        typer.echo(f"{output} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None


@config.command()
def show() -> None:
    """
    List all variables, but those that name and configure read sides, and what they mean.

    With its value (secrets masked), where that comes from, and its default.
    """
    from cos_ray.cli.configuration import shown

    try:
        shown(os.environ)
    except ConfigurationError as error:
        _fail(error, MISCONFIGURED)


@config.command()
def check() -> None:
    """
    Say what is wrong with the configuration.

    One line for each variable that `cos-ray serve` would not accept; exit status 1 if there is one.
    """
    for notice in _checked(os.environ, FAILED).notices:
        typer.echo(notice, err=True)
    typer.echo("the configuration is good")


def _checked(environment: Mapping[str, str], status: int) -> Configuration:
    from cos_ray.bootstrap.configuration import checked

    try:
        return checked(environment)
    except ConfigurationError as error:
        _fail(error, status)


def _fail(error: CosError, status: int) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(status)
