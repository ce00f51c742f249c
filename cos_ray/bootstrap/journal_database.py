"""The journal's database for commands that work on it beside the service, or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from cos_ray.bootstrap.database import as_configured, embedded_folder, external_database
from cos_ray.config.settings import Settings
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.embedded.server import EmbeddedPostgres

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
