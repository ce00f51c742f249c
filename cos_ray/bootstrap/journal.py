"""The journal, in a node's journal actor."""

from __future__ import annotations

from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.telemetry.logs import LogSettings


async def build_journal(logs: LogSettings, database: Database) -> PostgresJournal:
    """An open journal."""
    logs.apply()
    journal = PostgresJournal(database)
    await journal.open()
    return journal
