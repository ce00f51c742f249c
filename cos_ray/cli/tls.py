"""
TLS of a command's connection to a running service, and what to say where the two do not fit together.

Light to import: gRPC comes with the first call.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cos_ray.domain.errors import ConfigurationError

if TYPE_CHECKING:
    import grpc

CA, CERTIFICATE, KEY, NAME = "--tls-ca", "--tls-cert", "--tls-key", "--tls-server-name"
VARIABLES = {
    CA: "COS_TLS_CA_FILE",
    CERTIFICATE: "COS_TLS_CLIENT_CERT_FILE",
    KEY: "COS_TLS_CLIENT_KEY_FILE",
    NAME: "COS_TLS_SERVER_NAME",
}
"""What each option may be given by instead."""

_LOOK_WITHIN = 3.0
"""Seconds to find out what a port speaks."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a command makes sure of the service, and shows who it is."""

    ca: Path
    """The authority of the service's certificate, PEM."""
    certificate: Path | None = None
    """The command's own, for a service with COS_TLS_CLIENT_CA_FILE; PEM."""
    key: Path | None = None
    server_name: str | None = None
    """What the service's certificate is to name; None: the host."""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a gRPC channel; the files are good by now."""
        import grpc

        key, certificate = (
            None if path is None else path.read_bytes() for path in (self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), key, certificate)

    def context(self) -> ssl.SSLContext:
        """The same for Python's own TLS. Raises OSError and ValueError for files that cannot be used."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        return context


def find_tls(options: Mapping[str, str | None], environment: Mapping[str, str]) -> Tls | None:
    """
    What the options say, or the environment where they do not; None: plain text.

    `options`: by their names. Raises ConfigurationError with one line.
    """
    given = {
        option: options.get(option) or environment.get(VARIABLES[option], "").strip() for option in VARIABLES
    }
    told = [option for option in VARIABLES if given[option]]
    if not told:
        return None
    if not given[CA]:
        raise ConfigurationError(f"{told[0]} needs {CA} (or {VARIABLES[CA]}): the service's authority, PEM")
    for one, other in ((CERTIFICATE, KEY), (KEY, CERTIFICATE)):
        if given[one] and not given[other]:
            raise ConfigurationError(f"{one} needs {other} (or {VARIABLES[other]}) as well")
    certificate, key = (Path(given[each]) if given[each] else None for each in (CERTIFICATE, KEY))
    tls = Tls(Path(given[CA]), certificate, key, given[NAME] or None)
    try:
        Tls(tls.ca).context()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{CA} {given[CA]!r} cannot be used: {_why(error)}") from error
    try:
        tls.context()
    except (OSError, ValueError) as error:
        files = f"{CERTIFICATE} {given[CERTIFICATE]!r} with {KEY} {given[KEY]!r}"
        raise ConfigurationError(f"{files} cannot be used: {_why(error)}") from error
    return tls


def mismatch(host: str, port: int, tls: Tls | None) -> str | None:
    """What keeps a command with this TLS, or in plain text, from a service there; None: nothing of TLS."""
    speaks_tls = _speaks_tls(host, port)
    if speaks_tls is None:
        return None
    if tls is None:
        return f"the service speaks TLS, and this command plain text: give {CA}" if speaks_tls else None
    if not speaks_tls:
        return f"the service speaks plain text, and this command TLS: leave out {CA} (and {VARIABLES[CA]})"
    return _told(_refusal(host, port, tls.context(), tls.server_name or host), tls)


def _told(refusal: OSError | None, tls: Tls) -> str | None:
    match refusal:
        case ssl.SSLCertVerificationError(verify_message=reason) if "match" in reason.lower():
            return f"the service's certificate names another host ({reason}): give the name with {NAME}"
        case ssl.SSLCertVerificationError(verify_message=reason):
            return f"the service's certificate is not of the authority of {CA} ({reason})"
        case ssl.SSLError() | ConnectionResetError() if tls.certificate is None:
            return f"the service asks for a certificate ({_why(refusal)}): give {CERTIFICATE} and {KEY}"
        case ssl.SSLError() | ConnectionResetError():
            return f"the service does not accept the certificate of {CERTIFICATE} ({_why(refusal)})"
        case _:
            return None


def _speaks_tls(host: str, port: int) -> bool | None:
    """Whether what listens there does; None: nobody can say."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    match _refusal(host, port, trusting, host):
        case None:
            return True
        case ssl.SSLError(reason=str(reason)):
            # With an alert TLS itself says that it does not like this client.
            return "ALERT" in reason
        case ssl.SSLError() | ConnectionResetError() | BrokenPipeError():
            return False
        case _:
            return None


def _refusal(host: str, port: int, context: ssl.SSLContext, name: str) -> OSError | None:
    """Why no TLS connection comes about there, if so."""
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), _LOOK_WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            # With TLS 1.3 a server says only now that it does not accept the client's certificate, or just
            # closes; one that accepts it speaks first, as HTTP/2 has it.
            if context.verify_mode is ssl.CERT_REQUIRED and not connection.recv(1):
                return ConnectionResetError(0, "connection closed")
    except OSError as error:
        return error
    return None


def _no_password() -> str:
    raise ValueError("the key has a password")


def _why(error: Exception) -> str:
    match error:
        case ssl.SSLError(reason=str(reason)) if reason:
            return reason.lower().replace("_", " ")
        case OSError(strerror=str(reason)):
            return reason.lower()
        case _:
            return str(error) or type(error).__name__
