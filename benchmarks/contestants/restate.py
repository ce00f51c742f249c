"""Restate: the same bank, kept by another durable-execution service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import psutil

from benchmarks.contestants.base import Contestant, NotAvailable, family
from benchmarks.load.requests import Style
from cos_ray.cli.child_process import ChildProcess
from cos_ray.system.free_port import free_port
from tests.support.running_service import dying_with_us, plain_environment

VERSION = "1.7.12"
PACKAGE = f"@restatedev/restate-server@{VERSION}"

_CONFIGURATION = """
listen-mode = "tcp"
bind-address = "127.0.0.1:{node}"
advertised-address = "http://127.0.0.1:{node}/"
base-dir = "{folder}"
disable-telemetry = true
log-filter = "warn"
log-disable-ansi-codes = true

[ingress]
bind-address = "127.0.0.1:{ingress}"

[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true
"""


class Restate(Contestant):
    """Its server by npm, its Python SDK under hypercorn and uvloop; both as they come."""

    name = f"Restate {VERSION}, Python SDK"
    style = Style.RESTATE

    def start(self) -> None:
        """Install the server if need be, start both and register the bank."""
        server = installed()
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = {name: free_port() for name in ("ingress", "admin", "node", "bank")}
        configuration = self.folder / "restate.toml"
        configuration.write_text(_CONFIGURATION.format(folder=self.folder / "data", **ports))
        self._address = f"127.0.0.1:{ports['ingress']}"
        self._bank = ChildProcess(
            [*dying_with_us(), "-m", "benchmarks.contestants.restate_bank", str(ports["bank"])],
            plain_environment(),
        )
        self.running.callback(self._bank.stop)
        log = self.running.enter_context((self.folder / "log").open("wb"))
        command = [str(server), "--no-logo", "--config-file", str(configuration)]
        self._server = subprocess.Popen(
            [sys.executable, "-m", *dying_with_us()[:-1], *command],
            env={**plain_environment(), "DO_NOT_TRACK": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.running.callback(self._stop_server)
        self._register(f"http://127.0.0.1:{ports['admin']}", f"http://127.0.0.1:{ports['bank']}")

    @property
    def address(self) -> str:
        """Its ingress."""
        return self._address

    def processes(self) -> Iterable[tuple[str, psutil.Process]]:
        """The server (and npm's wrapper of it), and the handler."""
        return [
            *(("Restate server", process) for process in family(self._server.pid)),
            *(("handler", process) for process in family(self._bank.pid)),
        ]

    def _register(self, admin: str, bank: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.post(f"{admin}/deployments", json={"uri": bank}, timeout=10).raise_for_status()
                return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    log = (self.folder / "log").read_text(errors="replace")[-500:]
                    raise NotAvailable(f"its server does not start: {error}: {log}") from error
                time.sleep(0.2)

    def _stop_server(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


def installed() -> Path:
    """The server's program, installed by npm into a cache folder. Raises NotAvailable."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotAvailable("there is no npm to install it with")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cos_ray" / "benchmarks"
    folder = cache / f"restate-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    found = list(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not found:
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), PACKAGE],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        found = list(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
        if done.returncode != 0 or not found:
            raise NotAvailable(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    return found[0]
