"""
TLS of the public ports: certificates from files, which are read again when they change.

A connection keeps what it began with. A file that cannot be used when it has changed is told of, and the
former one stays in use.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import grpc

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files."""

    certificate: str
    """The certificate that clients see, with those in between up to the root."""
    key: str
    """Its private key, without a password."""
    client_ca: str | None = None
    """By which client certificates are checked, which are then needed; None: clients show none."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        files = (self.certificate, self.key, self.client_ca)
        return tuple(path for path in files if path is not None)


class Certificates:
    """What the files say, as far as it can be used; may be asked from any thread."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError and ssl.SSLError when they cannot be used."""
        self._files = files
        self._lock = Lock()
        self._seen = self._marks()
        self._context = self._built()
        self._bytes = self._read()

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server; asked again with each new connection."""
        told = self._bytes

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            self._look()
            if told == self._bytes:
                return None
            told = self._bytes
            return _configuration(told)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(told),
            changed,  # type: ignore[arg-type] # None is allowed: nothing has changed
            require_client_authentication=self._files.client_ca is not None,
        )

    def http_context(self) -> ssl.SSLContext:
        """For an HTTP server: of each new connection it is exchanged for the newest one."""
        context = self._built()

        def exchange(connection: ssl.SSLObject, name: str | None, own: ssl.SSLContext) -> None:
            self._look()
            connection.context = self._context

        context.sni_callback = exchange
        return context

    def _look(self) -> None:
        """Take in what has changed, if it can be used."""
        with self._lock:
            marks = self._marks()
            if marks == self._seen:
                return
            self._seen = marks
            try:
                context, content = self._built(), self._read()
            except (OSError, ValueError) as error:
                logger.error(
                    "changed certificate files cannot be used; the former ones stay in use",
                    extra={"files": self._files.paths, "reason": str(error)},
                )
                return
            self._context, self._bytes = context, content
            logger.info("certificates were read anew", extra={"files": self._files.paths})

    def _marks(self) -> tuple[object, ...]:
        """By which a change of the files is noticed."""
        marks: list[object] = []
        for path in self._files.paths:
            try:
                status = Path(path).stat()
                marks.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError as error:
                marks.append(error.errno)
        return tuple(marks)

    def _built(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._files.certificate, self._files.key, password=_no_password)
        if self._files.client_ca is not None:
            context.load_verify_locations(self._files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        ca = self._files.client_ca
        return (
            Path(self._files.key).read_bytes(),
            Path(self._files.certificate).read_bytes(),
            None if ca is None else Path(ca).read_bytes(),
        )


def _configuration(content: tuple[bytes, bytes, bytes | None]) -> grpc.ServerCertificateConfiguration:
    key, certificate, ca = content
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)


def _no_password() -> str:
    raise ValueError("the key has a password")
