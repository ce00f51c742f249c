"""Settings in the journal's own terms: which database, what is done there, how much history is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import platformdirs

from cos_ray.config.read_sides import ReadSideConfig
from cos_ray.config.settings import Database as DatabaseSettings
from cos_ray.config.settings import Settings
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.retention import Retention
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.rights import Use, require_rights
from cos_ray.postgres.shard_count import shards_of_database

_PATIENCE = timedelta(seconds=10)


@contextmanager
def journal_database(settings: Settings, tell: Callable[[str], None]) -> Iterator[Database]:
    """
    The database that is configured, within the block.

    The embedded one is used as it runs when a service has started it, and started here when not.
    Raises StartFailed when there is none to be had.
    """
    wanted = settings.database
    if wanted.host is None:
        server = EmbeddedPostgres(embedded_folder(settings))
        running = server.running()
        try:
            yield as_configured(running or server.start(tell), wanted)
        finally:
            if running is None:
                server.stop()
        return
    database = external_database(wanted)
    wait_until_reachable(database, _PATIENCE, tell)
    yield database


_SETTLED_WITHIN = timedelta(seconds=25)
"""How long after its time is up a lost command may still be asked for."""


def embedded_folder(settings: Settings) -> Path:
    """Where the embedded database keeps its data."""
    return settings.service.data_dir or Path(platformdirs.user_data_dir("cos_ray")) / "postgres"


def external_database(wanted: DatabaseSettings) -> Database:
    """The database that COS_DB_HOST names. Raises ConfigurationError if it names none."""
    if wanted.host is None:
        raise ConfigurationError("COS_DB_HOST is not set, but needed: the host of the database")
    database = Database(
        host=wanted.host,
        port=wanted.port,
        name=wanted.name,
        user=wanted.user,
        password=wanted.password.get_secret_value(),
        sslmode=wanted.sslmode.value,
    )
    return as_configured(database, wanted)


def as_configured(database: Database, wanted: DatabaseSettings) -> Database:
    """The database, to be used as the settings say."""
    return replace(
        database,
        schema=wanted.schema_name,
        pool_max_size=wanted.pool_max_size,
        pool_min_size=min(wanted.pool_min_idle, wanted.pool_max_size),
        idle_timeout=wanted.pool_idle_timeout,
        max_lifetime=wanted.pool_max_lifetime,
    )


def prepared(database: Database, settings: Settings, read_sides: Sequence[ReadSideConfig]) -> int:
    """
    Bring the tables up to date, and see that all that is configured can be done; the number of shards.

    Raises StartFailed with one line that says what is in the way.
    """
    migrate(database)
    require_rights(database, uses_of(settings, read_sides))
    return shards_of_database(database, settings.entities.num_shards)


def uses_of(settings: Settings, read_sides: Sequence[ReadSideConfig]) -> frozenset[Use]:
    """What a service with these settings does with its database."""
    retention = retention_of(settings, read_sides)
    holds = {
        Use.SERVING: True,
        Use.SNAPSHOTS: retention is not None,
        Use.DELETION: retention is not None and retention.deletes_events,
        Use.READ_SIDES: bool(read_sides),
        Use.ERASURE: settings.admission.erasure_enabled,
    }
    return frozenset(use for use, is_made in holds.items() if is_made)


def retention_of(settings: Settings, read_sides: Sequence[ReadSideConfig]) -> Retention | None:
    """When to write snapshots, None for never; every configured read side counts, switched off or not."""
    wanted = settings.retention
    if wanted.snapshots_disabled:
        return None
    return Retention(
        frequency=wanted.snapshot_frequency,
        keep=wanted.snapshots_kept,
        deletes_events=wanted.logical_deletion,
        read_sides=tuple(config.read_side_id for config in read_sides),
        delete_after=settings.calls.command_timeout + _SETTLED_WITHIN,
    )
