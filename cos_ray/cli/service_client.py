"""Calls a running service, with a token if there is one; what goes wrong ends the command with one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import typer

from cos_ray.cli.tls import Tls, mismatch
from cos_ray.cli.token import FILE_VARIABLE, OPTION, VARIABLE, Token
from cos_ray.config.complaints import MASK
from cos_ray.handlers.endpoints import address


class ServiceClient:
    """One service, and who calls it."""

    def __init__(self, host: str, port: int, token: Token | None, tls: Tls | None = None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._address = address(host, port)
        self._token = token
        self._metadata = () if token is None else (("authorization", f"Bearer {token.value}"),)
        # A single event may be as large as the service lets it be.
        options: list[tuple[str, Any]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),
        ]
        if tls is None:
            self.channel = grpc.insecure_channel(self._address, options=options)
        else:
            if tls.server_name is not None:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self.channel = grpc.secure_channel(self._address, tls.credentials(), options=options)

    def call(self, method: Callable[..., Any], request: object, within: float) -> Any:
        """What the service answers within so many seconds."""
        try:
            return method(request, timeout=within, metadata=self._metadata)
        except grpc.RpcError as error:
            fail(self._explained(error.code(), self._shown(error.details() or "")))

    def _explained(self, code: grpc.StatusCode, details: str) -> str:
        """What went wrong, and what to do about it where that is known."""
        token = self._token
        match code:
            case grpc.StatusCode.UNAUTHENTICATED if token is None:
                return (
                    "UNAUTHENTICATED: the service asks for a token, and none was sent: name a file that"
                    f" holds one with {OPTION} or {FILE_VARIABLE}, or set {VARIABLE}"
                )
            case grpc.StatusCode.UNAUTHENTICATED:
                return (
                    f"UNAUTHENTICATED: {details}: the service does not accept the one of {_source(token)};"
                    " send one that its COS_AUTH_FILE lets in"
                )
            case grpc.StatusCode.PERMISSION_DENIED:
                return (
                    f"PERMISSION_DENIED: {details}: no rule allows it to the token of {_source(token)};"
                    " send another, or have the service's COS_AUTH_FILE allow the method to this one"
                )
            case grpc.StatusCode.UNIMPLEMENTED if "COS_SERVER_PROTOCOL" in details:
                return (
                    f"the service at {self._address} answers over HTTP alone, and this command speaks gRPC:"
                    " it has to be started with COS_SERVER_PROTOCOL=both"
                )
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED if (
                reason := mismatch(self._host, self._port, self._tls)
            ) is not None:
                return f"{self._address}: {reason}"
            case grpc.StatusCode.UNAVAILABLE if "HTTP/2" in details:
                return (
                    f"what answers at {self._address} does not speak gRPC, as this command does:"
                    " --port is the service's COS_PORT, not its COS_HTTP_PORT"
                )
            case grpc.StatusCode.UNAVAILABLE if "connect" in details:
                return f"no service answers at {self._address}"
            case _:
                return f"{code.name}: {details}"

    def _shown(self, details: str) -> str:
        """On one line, and without the token, which somebody on the way may have quoted."""
        line = " ".join(details.split())
        return line if self._token is None else line.replace(self._token.value, MASK)


def _source(token: Token | None) -> str:
    return "nobody (none was sent)" if token is None else token.source


def fail(line: str) -> NoReturn:
    """End the command with this line."""
    typer.echo(line, err=True)
    raise typer.Exit(1)
