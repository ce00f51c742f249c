"""The journal, in a node's journal actor."""

from __future__ import annotations

from cos_ray.domain.retention import Retention
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.telemetry.logs import LogSettings


async def build_journal(
    logs: LogSettings, database: Database, retention: Retention | None = None
) -> PostgresJournal:
    """An open journal; `retention` is for one that appends."""
    logs.apply()
    journal = PostgresJournal(database, retention=retention)
    await journal.open()
    return journal
