"""
Certificates for TLS from files, which are read again when they change.

A connection keeps what it began with. A file that cannot be used when it has changed is told of, and the
former one stays in use.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files."""

    certificate: str
    """The certificate that the other side sees, with those in between up to the root."""
    key: str
    """Its private key, without a password."""
    ca: str | None = None
    """By which the other side's certificate is checked, which is then needed; None: it shows none."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        files = (self.certificate, self.key, self.ca)
        return tuple(path for path in files if path is not None)


@dataclass(frozen=True, slots=True)
class CertificateBytes:
    """What the files hold."""

    certificate: bytes
    key: bytes
    ca: bytes | None


class Certificates:
    """What the files say, as far as it can be used; may be asked from any thread."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError, ssl.SSLError and ValueError when they cannot be used."""
        self._files = files
        self._lock = Lock()
        self._seen = self._marks()
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, files)
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        self._bytes = self._read()

    @property
    def needs_client_certificates(self) -> bool:
        """Whether clients are let in by their certificates only."""
        return self._files.ca is not None

    def bytes_now(self) -> CertificateBytes:
        """The newest ones that can be used."""
        self._look()
        return self._bytes

    def server_context(self) -> ssl.SSLContext:
        """For a server: of each new connection it is exchanged for the newest one."""
        context = _context(ssl.PROTOCOL_TLS_SERVER, self._files)

        def exchange(connection: ssl.SSLObject, name: str | None, own: ssl.SSLContext) -> None:
            self._look()
            connection.context = self._server

        context.sni_callback = exchange
        return context

    def client_context(self) -> ssl.SSLContext:
        """
        For the next connection to a server whose certificate is of the same authority, under any name.

        Not without `TlsFiles.ca`.
        """
        assert self._files.ca is not None
        self._look()
        return self._client

    def _look(self) -> None:
        """Take in what has changed, if it can be used."""
        with self._lock:
            marks = self._marks()
            if marks == self._seen:
                return
            self._seen = marks
            try:
                server = _context(ssl.PROTOCOL_TLS_SERVER, self._files)
                client = _context(ssl.PROTOCOL_TLS_CLIENT, self._files)
                content = self._read()
            except (OSError, ValueError) as error:
                logger.error(
                    "changed certificate files cannot be used; the former ones stay in use",
                    extra={"files": self._files.paths, "reason": str(error)},
                )
                return
            self._server, self._client, self._bytes = server, client, content
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

    def _read(self) -> CertificateBytes:
        ca = self._files.ca
        return CertificateBytes(
            Path(self._files.certificate).read_bytes(),
            Path(self._files.key).read_bytes(),
            None if ca is None else Path(ca).read_bytes(),
        )


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nodes come and go under addresses that no certificate names: whoever has one of the authority is ours.
    context.check_hostname = False
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.ca is not None:
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
