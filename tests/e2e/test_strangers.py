"""What others can do to a running service, on the same machine and by its address."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.support.running_service import RunningService, describe, family_of, plain_environment

DOORS = {
    # The dashboard, and the agent beside it.
    "/api/jobs/": {"entrypoint": "touch {ran}"},
    "/api/job_agent/jobs/": {"entrypoint": "touch {ran}"},
    # It installs packages, whose build runs code.
    "/get_or_create_runtime_env": {"serialized_runtime_env": "{{}}"},
}
"""What runs code for who is let in over HTTP, and what to send there."""

STEERING = (
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.InternalKVGcsService/InternalKVGet",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
    # Unpickles what it is sent.
    "/ray.serve.ASGIService/HandleRequest",
)
"""Calls by which Ray's processes steer each other over gRPC, of each kind of server."""

ELSEWHERE = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE}
"""The server is one of another kind, or speaks no gRPC."""

SERVES_OWN = ("haproxy", "ray::ServeReplica", "ray::ProxyActor")
"""Processes that listen beyond the loopback nevertheless: Serve lets nobody choose where."""

JOIN = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False); print('joined')"


@dataclass(frozen=True)
class Listener:
    """A socket that takes connections in."""

    process: str
    host: str
    port: int


def listeners(service: RunningService) -> list[Listener]:
    """All of a service's."""
    found = []
    for process in (psutil.Process(service.pid), *family_of(service.pid).values()):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    host = each.laddr.ip.removeprefix("::ffff:")
                    found.append(Listener(command, host, each.laddr.port))
    return found


def outward_address() -> str:
    """Where other machines reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent; the kernel only says which address it would come from.
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def status_of(url: str, body: Mapping[str, str] | None = None, token: str | None = None) -> int | None:
    """The answer's; None where nobody speaks HTTP."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        return httpx.request(
            "GET" if body is None else "POST", url, json=body, headers=headers, timeout=20
        ).status_code
    except httpx.HTTPError:
        return None


def code_of(port: int, method: str) -> grpc.StatusCode:
    """How an empty gRPC call without a token ends; UNAVAILABLE where nobody speaks gRPC."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        error = channel.unary_unary(method).future(b"", timeout=20).exception()
    if error is None:
        return grpc.StatusCode.OK
    # What gRPC makes of an HTTP server's answer.
    is_http = "http2 header with status" in error.details()
    return grpc.StatusCode.UNAVAILABLE if is_http else error.code()


def joins(address: str, environment: dict[str, str]) -> bool:
    """Whether another program gets into the Ray cluster."""
    here = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **environment}
    program = subprocess.Popen(
        [sys.executable, "-c", JOIN, address],
        env={**plain_environment(), **here},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said, _ = program.communicate(timeout=60)
        return said == "joined\n"
    except subprocess.TimeoutExpired:
        return False
    finally:
        program.kill()
        program.wait()


@pytest.mark.timeout(400)
def test_no_one_without_the_token_gets_anything_run(own_service: RunningService, tmp_path: Path) -> None:
    own_service.start()
    ports = {each.port for each in listeners(own_service)}
    ran = tmp_path / "ran"
    with ThreadPoolExecutor(8) as threads:
        for door, form in DOORS.items():
            body = {name: value.format(ran=ran) for name, value in form.items()}
            urls = [
                f"http://{host}:{port}{door}" for host in ("127.0.0.1", outward_address()) for port in ports
            ]
            statuses = set(threads.map(lambda url, body=body: status_of(url, body), urls))
            assert 401 in statuses, door
            assert all(status is None or status >= 400 for status in statuses), door
        for method in STEERING:
            codes = set(threads.map(lambda port, method=method: code_of(port, method), ports))
            assert codes - ELSEWHERE == {grpc.StatusCode.UNAUTHENTICATED}, method
    jobs = f"{own_service.dashboard}/api/jobs/"
    assert status_of(jobs, {"entrypoint": f"touch {ran}"}, token="0" * 64) == 403
    accepted = httpx.get(jobs, headers={"Authorization": f"Bearer {own_service.ray_token}"}).json()
    assert [job["type"] for job in accepted] == ["DRIVER"]
    assert not ran.exists()

    token = own_service.ray_token
    assert token is not None
    tokens = ({}, *({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": each} for each in ("0" * 64, token)))
    with ThreadPoolExecutor(3) as threads:
        joined = threads.map(lambda environment: joins(own_service.ray_address, environment), tokens)
    assert list(joined) == [False, False, True]

    # Nor does anyone read the token: whoever is on the machine sees command lines.
    family = [psutil.Process(own_service.pid), *family_of(own_service.pid).values()]
    assert [describe(process) for process in family if any(token in each for each in process.cmdline())] == []
    own_service.stop()
    own_service.start()
    assert own_service.ray_token != token


def test_what_can_be_on_the_loopback_is(service: RunningService) -> None:
    beyond = [each for each in listeners(service) if each.host != "127.0.0.1"]
    assert [each for each in beyond if not any(name in each.process for name in SERVES_OWN)] == []
