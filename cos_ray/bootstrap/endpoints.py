"""From the settings to where handlers are; in the launcher, which alone knows the settings."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

from cos_ray.config.complaints import complaint
from cos_ray.config.door_settings import InternalTls, Listeners
from cos_ray.config.read_sides import Protocol, ReadSideConfig
from cos_ray.config.settings import Calls, HandlerProtocol, ReadSides, Settings, WriteSide
from cos_ray.domain.circuit_breaker import BreakerPolicy
from cos_ray.handlers.endpoints import (
    GrpcEndpoint,
    HttpEndpoint,
    Keepalive,
    PythonEndpoint,
    ReadTarget,
    Tls,
    WriteTarget,
)
from cos_ray.system.certificates import TlsFiles

_MILLISECOND = timedelta(milliseconds=1)


def write_target(settings: Settings) -> WriteTarget:
    """Where the write handler is. Raises ConfigurationError when that was not said."""
    write_side, calls = settings.write_side, settings.calls
    if write_side.handler is not None:
        # Like other servers of Python applications, we find them in the current folder as well.
        return PythonEndpoint(write_side.handler, str(Path.cwd()), calls.max_message_bytes)
    host, port = write_side.target
    tls = _tls(write_side) if write_side.use_tls else None
    if write_side.protocol is HandlerProtocol.HTTP:
        return HttpEndpoint(host, port, tls, calls.max_message_bytes)
    return GrpcEndpoint(host, port, tls, _keepalive(calls), calls.client_pool_size, calls.max_message_bytes)


def read_target(settings: Settings, config: ReadSideConfig) -> ReadTarget:
    """Where a read handler is."""
    if config.handler is not None:
        return python_read_target(config)
    calls = settings.calls
    tls = _tls(settings.read_sides) if config.use_tls else None
    if config.protocol is Protocol.HTTP:
        return HttpEndpoint(config.host, config.port, tls, calls.max_message_bytes, sends_anything=True)
    return GrpcEndpoint(
        config.host,
        config.port,
        tls,
        _keepalive(calls),
        calls.client_pool_size,
        calls.max_message_bytes,
        sends_anything=True,
    )


def python_read_target(config: ReadSideConfig) -> PythonEndpoint:
    """The class that handles a read side's events."""
    assert config.handler is not None
    return PythonEndpoint(
        config.handler, str(Path.cwd()), setting=f"readside {config.read_side_id}: the handler"
    )


def breaker_policy(side: WriteSide | ReadSides) -> BreakerPolicy | None:
    """When to leave a handler of this side alone; None: never."""
    if not side.breaker_enabled:
        return None
    return BreakerPolicy(side.breaker_max_failures, side.breaker_call_timeout, side.breaker_reset_timeout)


def internal_tls(settings: Settings) -> TlsFiles | None:
    """What processes on different machines speak TLS with; None: plain text."""
    wanted = settings.internal_tls
    files = (wanted.tls_cert_file, wanted.tls_key_file, wanted.tls_ca_file)
    paths = [str(path.absolute()) for path in files if path is not None]
    return TlsFiles(*paths) if len(paths) == len(files) else None


def tls_of(wanted: Listeners) -> TlsFiles | None:
    """What the public ports speak TLS with; None: plain text."""
    if wanted.tls_cert_file is None or wanted.tls_key_file is None:
        return None
    ca = wanted.tls_ca_file
    return TlsFiles(
        str(wanted.tls_cert_file.absolute()),
        str(wanted.tls_key_file.absolute()),
        None if ca is None else str(ca.absolute()),
    )


def faults_of_tls(side: WriteSide | ReadSides | Listeners | InternalTls) -> list[str]:
    """A line for each of the group's TLS files that cannot be used, on this machine, as it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    faults = []
    variables = {field: variable for variable, field in side.variables().items()}
    if (path := side.tls_ca_file) is not None:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            allowed = f"a file of certificates in PEM ({_why(error)})"
            faults.append(complaint(variables["tls_ca_file"], str(path), allowed))
    certificate, key = side.tls_cert_file, side.tls_key_file
    if certificate is not None and key is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            allowed = (
                f"a certificate in PEM, with its key, without a password, in {variables['tls_key_file']}"
            )
            faults.append(
                complaint(variables["tls_cert_file"], str(certificate), f"{allowed} ({_why(error)})")
            )
    return faults


def _tls(side: WriteSide | ReadSides) -> Tls:
    ca_file, cert_file, key_file = (
        str(path.absolute()) if path else None
        for path in (side.tls_ca_file, side.tls_cert_file, side.tls_key_file)
    )
    return Tls(ca_file, cert_file, key_file, side.tls_server_name)


def _keepalive(calls: Calls) -> Keepalive | None:
    if not calls.keepalive_enabled:
        return None
    return Keepalive(
        calls.keepalive_time // _MILLISECOND,
        calls.keepalive_timeout // _MILLISECOND,
        calls.keepalive_without_calls,
    )


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
