"""
A running service, as the commands reach it: where it listens, what is spoken, and who they say they are.

Light to import: gRPC comes with the first call, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cos_ray.cli import tls as tls_options
from cos_ray.cli.tls import Tls, find_tls
from cos_ray.cli.token import OPTION, Token, find_token
from cos_ray.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from cos_ray.cli.service_client import ServiceClient

MISCONFIGURED = 2


def _options(
    *,
    host: Annotated[str, typer.Option(help="Where the service listens.", envvar="COS_ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its gRPC port.", envvar="COS_PORT", min=1, max=65535)] = 9000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            OPTION,
            metavar="PATH",
            help="A file with the token to send, for a service with COS_AUTH_FILE. Left out, COS_TOKEN_FILE"
            " names the file, or COS_TOKEN is the token. The token itself is never an option: all users of a"
            " machine can see its command lines.",
        ),
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(
            tls_options.CA,
            metavar="PATH",
            help="Speak TLS: a file of the authority (PEM) that the service's certificate is of. Left out,"
            " COS_TLS_CA_FILE names it.",
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            tls_options.CERTIFICATE,
            metavar="PATH",
            help="A certificate (PEM) to show, for a service with COS_TLS_CLIENT_CA_FILE; or"
            " COS_TLS_CLIENT_CERT_FILE.",
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(
            tls_options.KEY, metavar="PATH", help="Its private key (PEM); or COS_TLS_CLIENT_KEY_FILE."
        ),
    ] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            tls_options.NAME,
            metavar="NAME",
            help="What the service's certificate names, if that is not --host; or COS_TLS_SERVER_NAME.",
        ),
    ] = None,
) -> RunningService:
    """What each command that talks to a service may be told. Raises ConfigurationError."""
    options = {
        tls_options.CA: tls_ca,
        tls_options.CERTIFICATE: tls_cert,
        tls_options.KEY: tls_key,
        tls_options.NAME: tls_server_name,
    }
    return RunningService(
        "127.0.0.1" if host == "0.0.0.0" else host,
        port,
        find_token(token_file, os.environ),
        find_tls(options, os.environ),
    )


@dataclass(frozen=True, slots=True)
class RunningService:
    """One service, and who calls it."""

    host: str
    port: int
    token: Token | None
    tls: Tls | None
    """None: plain text."""

    def client(self) -> ServiceClient:
        """What calls it."""
        # Only now: gRPC takes a while to import.
        from cos_ray.cli.service_client import ServiceClient

        return ServiceClient(self.host, self.port, self.token, self.tls)


def dials(command: Callable[..., None]) -> Callable[..., None]:
    """
    A command that talks to a service: given as `service`, by options that the command itself need not name.

    Ends with one line if the token or the certificates cannot be used.
    """
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in inspect.signature(command, eval_str=True).parameters.items()
        if name != "service"
    ]
    shared = inspect.signature(_options, eval_str=True).parameters

    @functools.wraps(command)
    def with_service(**given: Any) -> None:
        try:
            service = _options(**{name: given.pop(name) for name in shared})
        except ConfigurationError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(MISCONFIGURED) from None
        command(service, **given)

    # Arguments first, as they have no defaults.
    with_service.__signature__ = inspect.Signature([*own, *shared.values()])  # type: ignore[attr-defined]
    return with_service


def clear_screen() -> None:
    """Begin at the top of an empty terminal; where the output is none, nothing."""
    from rich.console import Console

    Console().clear()
