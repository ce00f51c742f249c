"""
The service as a whole: start everything in order, stop it in reverse.

    Postgres -> tables -> Ray -> read sides -> ingress -> ready
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from cos_ray.bootstrap.database import as_configured, embedded_folder, external_database, prepared
from cos_ray.bootstrap.endpoints import internal_tls, tls_of, write_target
from cos_ray.bootstrap.first_answer import wait_until_healthy, wait_until_ready_over_tls
from cos_ray.bootstrap.handlers import module_of
from cos_ray.bootstrap.metrics_page import metrics_page
from cos_ray.bootstrap.scratch import ray_folder
from cos_ray.config.door_settings import ListenerKind
from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.config.settings import ServerProtocol, Settings
from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.ray_internals.environment import closed_cluster, ray_environment
from cos_ray.system.ports import ensure_free, reachable, reserved
from cos_ray.system.signals import BoundedStop, StopSignals
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.traces import TraceSettings

if TYPE_CHECKING:  # Ray reads the environment when it is imported: not before it is set.
    from cos_ray.cluster.runtime import RayCluster

DATABASE_PATIENCE = timedelta(seconds=60)
"""How long to wait for a database that does not answer."""

READ_SIDE_DRAIN = timedelta(seconds=5)
"""How long read sides may take to finish what they have begun."""

CLUSTER_STOP = timedelta(seconds=15)
"""How long everything in Ray may take to stop in good order; then it is ended by force."""


class Progress(Protocol):
    """Shows a person what is going on."""

    def step(self, text: str) -> AbstractContextManager[object]:
        """Something that takes time; shown with how long it took."""
        ...

    def note(self, text: str) -> None:
        """A line worth seeing in between."""
        ...

    def ready(self, lines: Sequence[str]) -> None:
        """Everything runs."""
        ...


def serve(
    settings: Settings,
    read_sides: Sequence[ReadSideConfig],
    logs: LogSettings,
    traces: TraceSettings | None,
    progress: Progress,
    environment: MutableMapping[str, str],
) -> bool:
    """
    Run the service until SIGTERM or Ctrl-C; whether it was ended by one of them.

    If not, the Ray cluster that was started here is lost. All of it has been cleared away then, and
    the service is to be started again, in a process that knows nothing of the lost one.
    `environment` is this process's own, to which Ray's variables are added. Raises StartFailed.
    """
    was_told = True
    with StopSignals() as signals, ExitStack() as running:
        launch = _Launch(settings, read_sides, logs, traces, progress, running, signals)
        try:
            progress.ready(launch.start(environment))
            was_told = signals.wait(launch.cluster_parts.is_lost)
        except KeyboardInterrupt:
            pass  # told to stop while starting: what runs by now is stopped below
        if was_told:
            signals.ignore()
        else:
            progress.note("Ray is lost: everything is started again, from the journal")
        with progress.step("Draining and stopping"):
            running.close()
    if was_told:
        launch.cluster_parts.leave_if_stuck()
    return was_told


class _Launch:
    """One start of the service; leaves in `running` how each part is stopped."""

    def __init__(
        self,
        settings: Settings,
        read_sides: Sequence[ReadSideConfig],
        logs: LogSettings,
        traces: TraceSettings | None,
        progress: Progress,
        running: ExitStack,
        signals: StopSignals,
    ) -> None:
        self._settings = settings
        self._read_sides = read_sides
        self._logs = logs
        self._traces = traces
        self._progress = progress
        self._running = running
        self._signals = signals
        self.cluster_parts = BoundedStop()

    def start(self, environment: MutableMapping[str, str]) -> list[str]:
        """Start all parts, in order; the lines to show when they are ready."""
        service = self._settings.service
        if service.ray_address is None:
            self._ensure_ports_free()
            environment["RAY_TMPDIR"] = ray_folder(environment, self._progress.note)
        preloaded = module_of(write_target(self._settings))
        # Of our traces it has been read; Ray makes its metrics with the same library.
        environment.pop("OTEL_SDK_DISABLED", None)
        environment.update(ray_environment(environment, preloaded))
        if service.ray_address is None:
            environment.update(closed_cluster(environment))
        _import_meanwhile("cos_ray.cluster.serve_app", "cos_ray.bootstrap.ingress")
        database = self._start_database()
        with self._progress.step("Preparing the journal's tables"):
            shards = prepared(database, self._settings, self._read_sides)
        self._running.callback(self.cluster_parts.close, CLUSTER_STOP)
        cluster = self._start_ray()
        self._start_parts(database, shards, cluster)
        with self._progress.step("Waiting for the first healthy answer"):
            self._wait_until_healthy()
        return [
            f"gRPC {reachable(service.address)}:{service.port}",
            f"HTTP {reachable(service.http_address or service.address)}:{service.http_port} "
            f"({_http_paths(service.protocol)})",
            f"journal {database}",
            f"metrics {self._metrics(cluster)}",
            f"Ray cluster {cluster.address}",
            f"Ray dashboard {cluster.dashboard or 'not running'}",
        ]

    def _wait_until_healthy(self) -> None:
        service = self._settings.service
        tls = tls_of(self._settings.listeners)
        if tls is None:
            wait_until_healthy(service.address, service.port)
        else:
            wait_until_ready_over_tls(service.http_address or service.address, service.http_port, tls)

    def _metrics(self, cluster: RayCluster) -> str:
        """Where Prometheus finds them."""
        service = self._settings.service
        if not cluster.is_ours:
            return "of each node: see Ray's service discovery file"
        if service.metrics_port is None or cluster.metrics is None:
            return cluster.metrics or "not exported"
        page = metrics_page(service.address, service.metrics_port, cluster.metrics)
        self._running.enter_context(page)
        return f"http://{reachable(service.address)}:{service.metrics_port}/metrics"

    def _start_database(self) -> Database:
        wanted = self._settings.database
        if wanted.host is None:
            data_dir = embedded_folder(self._settings)
            with self._progress.step(f"Starting PostgreSQL in {data_dir}"):
                server = EmbeddedPostgres(data_dir)
                self._running.callback(server.stop)
                return as_configured(server.start(self._progress.note), wanted)
        database = external_database(wanted)
        with self._progress.step(f"Connecting to PostgreSQL at {database}"):
            wait_until_reachable(database, DATABASE_PATIENCE, self._progress.note)
        return database

    def _start_ray(self) -> RayCluster:
        address = self._settings.service.ray_address
        with self._progress.step(f"Joining the Ray cluster at {address}" if address else "Starting Ray"):
            from cos_ray.cluster import runtime
            from cos_ray.ray_internals.log_stream import print_worker_lines

            self.cluster_parts.callback(runtime.leave)
            cluster = runtime.start_or_join(self._settings.service.name, address)
            self._logs.apply()
            print_worker_lines(self._logs)
            self._signals.take_back()
            self.cluster_parts.is_lost = cluster.is_lost
        if cluster.nodes > 1 and self._settings.database.is_embedded:
            raise StartFailed(
                f"a cluster of {cluster.nodes} nodes needs a database that all of them reach: set COS_DB_HOST"
            )
        if not cluster.is_ours:
            self._claim(cluster)
        self.cluster_parts.callback(runtime.stop_actors, cluster, READ_SIDE_DRAIN)
        return cluster

    def _claim(self, cluster: RayCluster) -> None:
        """Have the joined cluster to ourselves, as far as our name goes."""
        from cos_ray.cluster import runtime, service_lock, service_registry
        from cos_ray.cluster.serve_app import stop_ingress
        from cos_ray.cluster.versions import ensure_same_everywhere

        ensure_same_everywhere(internal_tls(self._settings))
        sign = service_lock.claim(cluster)
        # Held until then: the sign goes with its last handle.
        self.cluster_parts.callback(lambda: sign)
        if service_lock.is_left_behind(cluster):
            with self._progress.step("Clearing what a launcher that was killed has left"):
                service_registry.withdraw(cluster.namespace)
                stop_ingress(cluster.namespace)
        runtime.stop_actors(cluster, READ_SIDE_DRAIN)
        # Only now: what was left had them, on this machine at least.
        self._ensure_ports_free()

    def _ensure_ports_free(self) -> None:
        service = self._settings.service
        http_address = service.http_address or service.address
        public = (
            (service.address, service.port, "COS_PORT"),
            (http_address, service.http_port, "COS_HTTP_PORT"),
        )
        for host, port, variable in public:
            if self._settings.listeners.kind is ListenerKind.SERVE:
                ensure_free(host, port, variable)
            else:
                self._running.enter_context(reserved(host, port, variable))
        if service.metrics_port is not None:
            ensure_free(service.address, service.metrics_port, "COS_METRICS_PORT")

    def _start_parts(self, database: Database, shards: int, cluster: RayCluster) -> None:
        from cos_ray.bootstrap.ingress import build_ingress, ingress_class
        from cos_ray.bootstrap.service_spec import ingress_options, service_spec_of
        from cos_ray.cluster import service_registry
        from cos_ray.cluster.serve_app import start_ingress, stop_ingress

        settings, namespace = self._settings, cluster.namespace
        parts = service_spec_of(
            settings, self._read_sides, self._logs, self._traces, database, shards, namespace
        )
        if parts.shard_coordinator is not None:
            with self._progress.step("Starting the shard hosts"):
                parts.shard_coordinator.start()
        if parts.process_coordinator is not None:
            # It prepares the nodes while all else starts.
            parts.process_coordinator.begin()
        for process in parts.read_sides:
            if process.number == 0:
                with self._progress.step(f"Starting read side {process.read_side}"):
                    process.start()
            else:
                process.start()
        service_registry.publish(namespace, parts.way_in)
        with self._progress.step("Starting the ingress on Ray Serve"):
            options = ingress_options(settings, namespace, parts.ingress_settings)
            self.cluster_parts.callback(stop_ingress, namespace, listens=options.listens)
            # First of all: by this replicas know that none takes their place.
            self.cluster_parts.callback(service_registry.withdraw, namespace)
            start_ingress(ingress_class(settings), parts.ingress(build_ingress), options)
        if parts.process_coordinator is not None:
            with self._progress.step("Preparing the processes of the first entities"):
                parts.process_coordinator.wait_until_ready()


def _import_meanwhile(*modules: str) -> None:
    """
    Begin to import what takes seconds, while this thread waits for Postgres and for Ray's processes.

    Whoever imports them later waits for what is left of it, and meets the error if there is one.
    """

    def import_all() -> None:
        for module in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(module)

    threading.Thread(target=import_all, name="imports", daemon=True).start()


def _http_paths(protocol: ServerProtocol) -> str:
    return "/ready, /alive" if protocol is ServerProtocol.GRPC else "/v1, /openapi.json, /ready, /alive"
