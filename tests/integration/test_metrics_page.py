"""A fixed place for the metrics that Ray has on a port of its own."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cos_ray.bootstrap.metrics_page import metrics_page
from cos_ray.domain.errors import StartFailed
from cos_ray.system.free_port import free_port

TEXT = b"# TYPE x counter\nx 1\n"


@pytest.fixture
def agent() -> Iterator[str]:
    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(TEXT)

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def get(port: int, path: str = "/metrics") -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read(), reply.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read(), ""


def test_it_says_what_rays_agent_says(agent):
    port = free_port()
    with metrics_page("127.0.0.1", port, agent):
        assert get(port) == (200, TEXT, "text/plain; version=0.0.4")
        assert get(port, "/")[0] == 404
    with pytest.raises(OSError, match="refused"):
        get(port)


def test_an_agent_that_does_not_answer_is_named():
    port = free_port()
    with metrics_page("127.0.0.1", port, f"http://127.0.0.1:{free_port()}/metrics"):
        status, body, _ = get(port)
    assert status == 502
    assert b"Ray's agent does not answer" in body


def test_a_port_that_is_taken_stops_the_start_by_its_setting(agent):
    port = free_port()
    with metrics_page("127.0.0.1", port, agent):  # noqa: SIM117 - the second is to find the first
        with (
            pytest.raises(StartFailed, match="COS_METRICS_PORT"),
            metrics_page("127.0.0.1", port, agent),
        ):
            pass
