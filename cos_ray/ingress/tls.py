"""TLS of the gRPC port, by certificates that may change."""

from __future__ import annotations

import grpc

from cos_ray.system.certificates import CertificateBytes, Certificates


def grpc_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """For a gRPC server; asked again with each new connection."""
    told = certificates.bytes_now()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        newest = certificates.bytes_now()
        if newest == told:
            return None
        told = newest
        return _configuration(told)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(told),
        changed,  # type: ignore[arg-type] # None is allowed: nothing has changed
        require_client_authentication=certificates.needs_client_certificates,
    )


def _configuration(content: CertificateBytes) -> grpc.ServerCertificateConfiguration:
    pair = (content.key, content.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=content.ca)
