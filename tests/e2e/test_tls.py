"""A service that speaks TLS, and asks its clients for certificates, as it is started and looked at."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from tests.support.authority import Authority
from tests.support.handler import BANK_CLASS
from tests.support.running_service import RunningService, plain_environment, serve_and_fail

HANDLER = {"COS_WRITE_SIDE_HANDLER": BANK_CLASS}


@pytest.mark.parametrize("is_same_authority", [True, False], ids=["own", "other"])
def test_it_starts_and_is_looked_at_with_certificates_of_clients(
    tmp_path: Path, is_same_authority: bool
) -> None:
    """`other`: clients' certificates are of an authority that the service's own one is not of."""
    authority = Authority(tmp_path)
    (tmp_path / "clients").mkdir()
    for_clients = authority if is_same_authority else Authority(tmp_path / "clients")
    certificate, key = authority.issue("localhost")
    own, own_key = for_clients.issue("ops")
    internal, internal_key = authority.issue("cos-ray.internal")
    service = RunningService(
        tmp_path / "data",
        {
            **HANDLER,
            "COS_TLS_CERT_FILE": certificate,
            "COS_TLS_KEY_FILE": key,
            "COS_TLS_CLIENT_CA_FILE": for_clients.ca_file,
            "COS_INTERNAL_TLS_CERT_FILE": internal,
            "COS_INTERNAL_TLS_KEY_FILE": internal_key,
            "COS_INTERNAL_TLS_CA_FILE": authority.ca_file,
        },
    )
    try:
        service.start()
        credentials = grpc.ssl_channel_credentials(
            *(Path(path).read_bytes() for path in (authority.ca_file, own_key, own))
        )
        with grpc.secure_channel(f"localhost:{service.port}", credentials) as channel:
            with pytest.raises(grpc.RpcError) as unknown:
                ChiefOfStateServiceStub(channel).GetState(GetStateRequest(entity_id="nobody"), timeout=20)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        context = ssl.create_default_context(cafile=authority.ca_file)
        context.load_cert_chain(own, own_key)
        with urllib.request.urlopen(
            f"https://localhost:{service.http_port}/ready", context=context, timeout=20
        ) as answer:
            assert answer.status == 200
        tls = ["--tls-ca", authority.ca_file, "--tls-cert", own, "--tls-key", own_key]
        command = [sys.executable, "-m", "cos_ray", "status", "--host", "localhost"]
        shown = subprocess.run(
            [*command, "--port", str(service.port), *tls],
            env=plain_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (shown.returncode, shown.stderr) == (0, "")
    finally:
        service.end()


def test_certificates_that_cannot_be_used_stop_the_start_with_a_line_each(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("cos-ray.internal")
    names = [f"COS_INTERNAL_TLS_{each}_FILE" for each in ("CERT", "KEY", "CA")]
    cases = [
        ((certificate, key, "/nowhere"), "COS_INTERNAL_TLS_CA_FILE is '/nowhere'"),
        ((certificate, authority.ca_file, authority.ca_file), "COS_INTERNAL_TLS_CERT_FILE is"),
    ]
    for files, beginning in cases:
        failed = serve_and_fail({**HANDLER, **dict(zip(names, files, strict=True))})
        (line,) = failed.stderr.splitlines()
        assert (failed.returncode, line.startswith(beginning)) == (2, True), line
    failed = serve_and_fail({**HANDLER, names[0]: certificate, names[1]: key})
    lines = failed.stderr.splitlines()
    assert failed.returncode == 2
    assert [line.split()[0] for line in lines] == names[:2]
    assert all("setting COS_INTERNAL_TLS_CA_FILE as well" in line for line in lines)
