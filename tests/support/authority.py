"""A certificate authority of a test's own."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Authority:
    """A certificate authority with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.folder = folder
        self.ca_file = self._written("ca.pem", self._ca.cert_pem.bytes())

    def issue(self, name: str) -> tuple[str, str]:
        """The files of a certificate for this name, and of its key."""
        certificate = self._ca.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        return self._written(f"{name}.pem", chain), self._written(
            f"{name}.key", _for_java(certificate.private_key_pem.bytes())
        )

    def _written(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


def _for_java(pem: bytes) -> bytes:
    """The key in PKCS#8, the one form that Java reads as well."""
    key = load_pem_private_key(pem, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
