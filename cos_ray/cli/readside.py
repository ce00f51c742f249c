"""
The commands about read sides: Chief of State's own verbs as they are, and what we add to them.

They talk gRPC to a running service. Exit status: 0 done, 1 the service refused or cannot be
reached, 2 mistyped, or its token cannot be used.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from cos_ray.cli.running_service import RunningService, clear_screen, dials

if TYPE_CHECKING:
    from cos_ray.cli.readside_client import ReadSideClient

readside = typer.Typer(
    help="Look at read sides, pause, resume, restart and skip, deliver again, and tend dead letters.",
    no_args_is_help=True,
)
dead_letters = typer.Typer(
    help="Events that a read side with failure policy PARK has set aside.", no_args_is_help=True
)
readside.add_typer(dead_letters, name="dead-letters")

Id = Annotated[str, typer.Option("--id", help="Which read side.", metavar="ID")]
AnyId = Annotated[str, typer.Option("--id", help="Which read side; all, if left out.", metavar="ID")]
ShardNumber = Annotated[
    int | None, typer.Option("--shard-number", min=0, help="This shard only; all, if left out.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Entity = Annotated[str, typer.Option("--entity", help="Which entity.", metavar="ENTITY_ID")]

WATCH_EVERY = 1.0
"""Seconds between two looks."""


@readside.command()
@dials
def offset(
    service: RunningService,
    id_: Id,
    shard_number: ShardNumber = None,
    as_json: AsJson = False,
) -> None:
    """Print the offset up to which everything is handled, shard by shard."""
    from cos_ray.cli.readside_report import print_offsets

    offsets = _client(service).offsets(id_, shard_number)
    if as_json:
        typer.echo(json.dumps({str(shard): value for shard, value in offsets.items()}, indent=2))
    else:
        print_offsets(offsets)


@readside.command()
@dials
def pause(
    service: RunningService,
    id_: Id,
    shard_number: ShardNumber = None,
) -> None:
    """Stop deliveries until resumed, restarts of the service included."""
    _do("PauseReadSide", id_, shard_number, _client(service), "paused")


@readside.command()
@dials
def resume(
    service: RunningService,
    id_: Id,
    shard_number: ShardNumber = None,
) -> None:
    """Go on where deliveries were paused, or where a failure has stopped them."""
    _do("ResumeReadSide", id_, shard_number, _client(service), "resumed")


@readside.command()
@dials
def restart(
    service: RunningService,
    id_: Id,
    shard_number: ShardNumber = None,
) -> None:
    """Clear the offset, so that everything is delivered again from the beginning of the journal."""
    _do("RestartReadSide", id_, shard_number, _client(service), "restarted")


@readside.command()
@dials
def skip(
    service: RunningService,
    id_: Id,
    shard_number: ShardNumber = None,
) -> None:
    """Step over the next event of each shard that is stuck, and over nothing in a healthy one."""
    _do("SkipOffset", id_, shard_number, _client(service), "skipped")


@readside.command()
@dials
def status(
    service: RunningService,
    id_: AnyId = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how read sides fare: state, offset, how far behind, failures and the last error."""
    from cos_ray.cli.readside_report import print_status, status_as_json

    client = _client(service)
    while True:
        found = client.status(id_)
        if watch and not as_json:
            clear_screen()
        if as_json:
            typer.echo(json.dumps(status_as_json(found), indent=None if watch else 2))
        else:
            print_status(found)
        if not watch:
            return
        try:
            time.sleep(WATCH_EVERY)
        except KeyboardInterrupt:
            return


@readside.command()
@dials
def replay(
    service: RunningService,
    id_: Id,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Deliver again what was stored since then (UTC).",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
        ),
    ] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Deliver again what comes after this offset.")
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option(help="Deliver this entity's events again; may be repeated.", metavar="ENTITY_ID"),
    ] = None,
    shard_number: ShardNumber = None,
) -> None:
    """Deliver events again: since a time, after an offset, or of entities. Never leaves any out."""
    if sum(choice is not None for choice in (since, after, entity or None)) != 1:
        raise typer.BadParameter("give one of --since, --after and --entity")
    if entity and shard_number is not None:
        raise typer.BadParameter("--shard-number does not go with --entity: it lies where it lies")
    date = None if since is None else since.replace(tzinfo=timezone.utc)
    shards = [] if shard_number is None else [shard_number]
    reply = _client(service).replay(id_, shards, date, after, entity or [])
    typer.echo(f"{reply.count} {'events come' if entity else 'shards deliver'} again")
    _complain(reply.failed)


@dead_letters.command("list")
@dials
def list_(
    service: RunningService,
    id_: Id,
    entity: Entity = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the oldest dead letters, each with the reason."""
    from cos_ray.cli.readside_report import letters_as_json, print_letters

    reply = _client(service).dead_letters(id_, entity, limit)
    if as_json:
        typer.echo(json.dumps(letters_as_json(reply.letters), indent=2))
    else:
        print_letters(reply.letters)
    if reply.has_more:
        typer.echo(f"the oldest {len(reply.letters)}; there are more", err=True)


@dead_letters.command()
@dials
def retry(
    service: RunningService,
    id_: Id,
    entity: Annotated[
        list[str] | None,
        typer.Option(help="Of this entity; may be repeated. All, if left out.", metavar="ENTITY_ID"),
    ] = None,
) -> None:
    """Deliver dead letters, each entity's in order; those confirmed are gone."""
    reply = _client(service).retry(id_, entity or [])
    typer.echo(f"{reply.delivered} delivered")
    _complain(reply.failed)


@dead_letters.command()
@dials
def drop(
    service: RunningService,
    id_: Id,
    entity: Entity,
    revision: Annotated[
        int, typer.Option(min=0, help="This event only (its sequence number); all, if left out.")
    ] = 0,
) -> None:
    """Forget dead letters of an entity for good."""
    typer.echo(f"{_client(service).drop(id_, entity, revision)} dropped")


def _do(verb: str, id_: str, shard: int | None, client: ReadSideClient, done: str) -> None:
    client.do(verb, id_, shard)
    which = "all shards" if shard is None else f"shard {shard}"
    typer.echo(f"{id_}: {which} {done}")


def _complain(lines: object) -> None:
    """Print what did not work; exit status 1 if there is anything."""
    failed = list(lines)  # type: ignore[call-overload]
    for line in failed:
        typer.echo(line, err=True)
    if failed:
        raise typer.Exit(1)


def _client(service: RunningService) -> ReadSideClient:
    # Only now: gRPC takes a while to import.
    from cos_ray.cli.readside_client import ReadSideClient

    return ReadSideClient(service.client())
