"""The journal's database for commands that work on it beside the service, or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import platformdirs

from cos_ray.config.settings import Settings
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.embedded import EmbeddedPostgres

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
        server = EmbeddedPostgres(settings.service.data_dir or Path(platformdirs.user_data_dir("cos_ray")))
        running = server.running()
        try:
            yield replace(running or server.start(tell), schema=wanted.schema_name)
        finally:
            if running is None:
                server.stop()
        return
    database = Database(
        host=wanted.host,
        port=wanted.port,
        name=wanted.name,
        user=wanted.user,
        password=wanted.password.get_secret_value(),
        schema=wanted.schema_name,
        sslmode=wanted.sslmode.value,
    )
    wait_until_reachable(database, _PATIENCE, tell)
    yield database
