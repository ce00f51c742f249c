"""The journal, in a node's journal actor and wherever it is read."""

from __future__ import annotations

from datetime import timedelta

from cos_ray.cluster.metrics_export import exported_meters
from cos_ray.domain.retention import Retention
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.telemetry.catalogue import WAITING_APPENDS
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.recorders import JournalRecorder


async def build_journal(logs: LogSettings, database: Database) -> PostgresJournal:
    """An open journal, to read from."""
    return await _opened(logs, PostgresJournal(database))


async def build_node_journal(
    logs: LogSettings,
    database: Database,
    retention: Retention | None,
    key_ttl: timedelta,
    largest_event: int,
) -> PostgresJournal:
    """
    An open journal, to append to; what is kept beside the events, and for how long, is its business.

    `largest_event`: bytes of an event with its state and metadata; what is larger is refused.
    """
    meters = exported_meters()
    journal = PostgresJournal(
        database,
        largest_event=largest_event,
        retention=retention,
        key_ttl=key_ttl,
        deletes_expired_keys=True,
        meter=JournalRecorder(meters),
    )
    meters.watch(lambda: journal.waiting_appends, WAITING_APPENDS)
    return await _opened(logs, journal)


async def _opened(logs: LogSettings, journal: PostgresJournal) -> PostgresJournal:
    logs.apply()
    await journal.open()
    return journal
