"""
The service as an application of Ray Serve, for `serve deploy` and for whatever deploys so: no launcher.

    import_path: cos_ray.bootstrap.serve_build:build

Serve calls `build` in a task of its own, somewhere in the cluster, whenever the application's
configuration has changed. What cannot run is refused here, in one line, which `serve status` shows.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from cos_ray.bootstrap.configuration import Configuration, checked
from cos_ray.bootstrap.database import external_database, prepared
from cos_ray.bootstrap.endpoints import internal_tls
from cos_ray.bootstrap.ingress import build_deployed_ingress, ingress_class
from cos_ray.bootstrap.service_spec import ServiceSpec, ingress_options, service_spec_of
from cos_ray.cluster.names import namespace_of, namespace_of_release
from cos_ray.cluster.release_supervisor_actor import Release
from cos_ray.cluster.serve_app import Refused, bound
from cos_ray.cluster.versions import ensure_same_everywhere
from cos_ray.config.complaints import complaint
from cos_ray.config.settings import groups
from cos_ray.domain.errors import ConfigurationError, StartFailed
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.telemetry.logs import LogSettings
from cos_ray.transport.lazy_pickle import pickle_lazily

logger = logging.getLogger(__name__)

RELEASE = "COS_RELEASE"
"""An argument that means nothing but that all is to be deployed anew when it changes."""

DATABASE_PATIENCE = timedelta(minutes=10)
"""How long to wait for a database that does not answer: Serve does not try again of its own accord."""


def build(args: dict[str, Any]) -> Any:
    """
    The application, its tables prepared.

    `args`: COS_* settings, but no secrets; they win over the environment of the node this runs on,
    which says the rest. Raises Refused with a line for each thing that is wrong.
    """
    try:
        configuration = configuration_of(args, os.environ)
        configuration.log_notices()
        ensure_same_everywhere(internal_tls(configuration.settings))
        database, shards = _prepared(configuration)
    except (ConfigurationError, StartFailed) as error:
        raise Refused(str(error)) from None
    return _application(configuration, database, shards)


def configuration_of(args: Mapping[str, Any], environment: Mapping[str, str]) -> Configuration:
    """The configuration. Raises ConfigurationError with a line for each variable that is wrong."""
    told = {**environment, **_as_texts(args)}
    faults = []
    if "COS_DB_HOST" not in told:
        faults.append("COS_DB_HOST is not set, but needed: the host of the database, for all nodes to reach")
    try:
        configuration = checked(told)
    except ConfigurationError as error:
        raise ConfigurationError("\n".join([*faults, str(error)])) from None
    if faults:
        raise ConfigurationError("\n".join(faults))
    return configuration


def _as_texts(args: Mapping[str, Any]) -> dict[str, str]:
    """The arguments as an environment would hold them."""
    secret = _secret_variables()
    faults, texts = [], {}
    for name, value in args.items():
        if name in secret:
            # Whoever reaches the dashboard may read the arguments.
            faults.append(
                f"{name} is a secret, and not for the arguments of the Serve application: "
                f"set {name}_FILE, or the variable in the environment of the nodes"
            )
        elif name == RELEASE:
            continue
        elif not name.startswith(("COS_", "LOG_", "OTEL_")):
            faults.append(f"{name} among the arguments of the Serve application is no setting of cos_ray")
        elif isinstance(value, list) and all(_is_plain(item) for item in value):
            texts[name] = ",".join(map(_text, value))
        elif _is_plain(value):
            texts[name] = _text(value)
        else:
            faults.append(complaint(name, str(value), "a text, a number, true, false or a list of those"))
    if faults:
        raise ConfigurationError("\n".join(faults))
    return texts


def _is_plain(value: object) -> bool:
    return isinstance(value, str | bool | int | float)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _secret_variables() -> set[str]:
    return {
        variable
        for group in groups().values()
        for variable, field in group.variables().items()
        if group.model_fields[field].annotation is SecretStr
    }


def _prepared(configuration: Configuration) -> tuple[Database, int]:
    """The database, with its tables as they are to be, and how many shards its journal has."""
    settings = configuration.settings
    database = external_database(settings.database)
    wait_until_reachable(database, DATABASE_PATIENCE, _told_once())
    return database, prepared(database, settings, configuration.read_sides)


def _told_once() -> Callable[[str], None]:
    """Logs the first it is told of; what follows says the same every two seconds."""
    told: list[str] = []

    def tell(reason: str) -> None:
        if not told:
            logger.warning(reason)
        told.append(reason)

    return tell


def _application(configuration: Configuration, database: Database, shards: int) -> Any:
    settings = configuration.settings
    service = settings.service.name
    logs = LogSettings(settings.logs.level.value, settings.logs.style.value, service)
    namespace = namespace_of_release(service, secrets.token_hex(4))
    parts = service_spec_of(
        settings,
        configuration.read_sides,
        logs,
        configuration.traces,
        database,
        shards,
        namespace,
        is_deployed=True,
    )
    release = Release(namespace_of(service), namespace, pickle_lazily(start, parts), parts.way_in, logs)
    options = ingress_options(settings, service, parts.ingress_settings)
    return bound(ingress_class(settings), parts.ingress(build_deployed_ingress, release), options)


def start(parts: ServiceSpec) -> None:
    """Start all parts of a release but its ingress, those that do not run yet. Raises StartFailed."""
    starts: list[Callable[[], None]] = [process.start for process in parts.read_sides]
    if parts.shard_coordinator is not None:
        starts.insert(0, parts.shard_coordinator.start)
    if parts.process_coordinator is not None:
        starts = [parts.process_coordinator.begin, *starts, parts.process_coordinator.wait_until_ready]
    for begin in starts:
        begin()
