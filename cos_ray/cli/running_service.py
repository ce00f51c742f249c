"""
A running service, as the commands reach it: where it listens, and who they say they are.

Light to import: gRPC comes with the first call, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cos_ray.cli.token import OPTION, find_token
from cos_ray.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from cos_ray.cli.service_client import ServiceClient

Host = Annotated[str, typer.Option(help="Where the service listens.", envvar="COS_ADDRESS")]
Port = Annotated[int, typer.Option(help="Its gRPC port.", envvar="COS_PORT", min=1, max=65535)]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        OPTION,
        metavar="PATH",
        help="A file with the token to send, for a service with COS_AUTH_FILE. Left out, COS_TOKEN_FILE names"
        " the file, or COS_TOKEN is the token. The token itself is never an option: all users of a"
        " machine can see its command lines.",
    ),
]

HOST, PORT = "127.0.0.1", 9000

MISCONFIGURED = 2


def service_at(host: str, port: int, token_file: Path | None) -> ServiceClient:
    """The service there; ends the command with one line if the token cannot be used."""
    try:
        token = find_token(token_file, os.environ)
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(MISCONFIGURED) from None
    # Only now: gRPC takes a while to import.
    from cos_ray.cli.service_client import ServiceClient

    return ServiceClient("127.0.0.1" if host == "0.0.0.0" else host, port, token)
