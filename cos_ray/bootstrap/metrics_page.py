"""
A fixed place for Prometheus to scrape a service that has its Ray cluster to itself.

Ray's own page is on the loopback, on a port that changes with every start. This one hands it on.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from cos_ray.domain.errors import StartFailed

PATH = "/metrics"
_ANSWER_WITHIN = 8.0
"""Seconds for Ray's agent, less than Prometheus gives by default."""


@contextmanager
def metrics_page(host: str, port: int, source: str) -> Iterator[None]:
    """Answer `GET /metrics` with what `source` says, within the block. Raises StartFailed."""

    class Page(_Page):
        url = source

    try:
        server = ThreadingHTTPServer((host, port), Page)
    except OSError as error:
        raise StartFailed(
            f"port {port} on {host} (COS_METRICS_PORT) cannot be used: {error.strerror}"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics page", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Page(BaseHTTPRequestHandler):
    url: ClassVar[str]

    def do_GET(self) -> None:
        """What http.server calls."""
        if self.path.split("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"only {PATH} is here")
            return
        try:
            # An http address of Ray's, on this machine.
            with urllib.request.urlopen(self.url, timeout=_ANSWER_WITHIN) as reply:  # noqa: S310
                body, kind = reply.read(), reply.headers.get("Content-Type", "text/plain")
        except OSError as error:
            self.send_error(HTTPStatus.BAD_GATEWAY, f"Ray's agent does not answer: {error}")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Not every scrape is worth a line."""
