"""Whether a service that was started answers on its public ports."""

from __future__ import annotations

import http.client
import ssl
import time
from datetime import timedelta
from http import HTTPStatus

from cos_ray.domain.errors import StartFailed
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.ports import reachable

HEALTHY_WITHIN = timedelta(seconds=30)
"""How long a started ingress may take to its first healthy answer."""


def wait_until_healthy(host: str, port: int) -> None:
    """Return when the health check answers SERVING. Raises StartFailed."""
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    deadline = time.monotonic() + HEALTHY_WITHIN.total_seconds()
    last = ""
    with grpc.insecure_channel(f"{reachable(host)}:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        while time.monotonic() < deadline:
            call = HealthStub(channel).Check.future(HealthCheckRequest(), timeout=2)
            if call.exception() is None:
                if call.result().status == HealthCheckResponse.SERVING:
                    return
                last = "not serving"
            else:
                last = f"{call.code().name}: {call.details()}"
            time.sleep(0.1)
    raise StartFailed(f"the service started but does not answer its health check: {last}")


def wait_until_ready_over_tls(host: str, port: int, files: TlsFiles) -> None:
    """
    Return when the HTTP port answers `/ready` over TLS with 200. Raises StartFailed.

    It is this service's own port, so its certificate is not checked: it may name no address of this machine.
    Where clients need a certificate, the service's own one is shown. If that is of another authority than
    clients' are, the service turns it away, which shows that it has opened its port.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(files.certificate, files.key)
    deadline = time.monotonic() + HEALTHY_WITHIN.total_seconds()
    last = ""
    while time.monotonic() < deadline:
        try:
            status = _status_over_tls(host, port, context)
            if status == HTTPStatus.OK:
                return
            last = f"/ready answers {status}"
        except _TurnedAway as error:
            if files.ca is not None:
                return
            last = str(error)
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        time.sleep(0.1)
    raise StartFailed(f"the service started but is not ready: {last}")


class _TurnedAway(Exception):
    """Closed after the handshake, which is when a server looks at the client's certificate."""


def _status_over_tls(host: str, port: int, context: ssl.SSLContext) -> int:
    """What `/ready` answers. Raises _TurnedAway, OSError and HTTPException."""
    connection = http.client.HTTPSConnection(reachable(host).strip("[]"), port, timeout=2, context=context)
    try:
        connection.connect()
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status
        except (ssl.SSLError, ConnectionError) as error:
            raise _TurnedAway(str(error)) from error
    finally:
        connection.close()
