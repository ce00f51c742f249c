"""Reads from the journal how many shards it has: its tags are the only place that knows."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import Tagged, shards_of_journal
from cos_ray.postgres.database import Database, PlainConnection, one_line, plain_session
from cos_ray.postgres.statements import statement

NEWEST = 5_000
"""How many of the newest rows are looked at."""


def shards_of_database(database: Database, configured: int | None) -> int:
    """
    The number of shards to go on with; the schema is in place.

    Raises StartFailed when no number explains the tags, or `configured` does not.
    """
    try:
        with plain_session(database, reads_only=True) as connection:
            tagged = newest_tags(connection)
    except psycopg.Error as error:
        raise StartFailed(f"the journal's tags cannot be read: {one_line(error)}") from error
    return shards_of_journal(tagged, configured)


def newest_tags(connection: PlainConnection) -> Sequence[Tagged]:
    """The entities and tags of the newest rows."""
    rows = connection.execute(statement("newest_tags"), {"limit": NEWEST}).fetchall()
    return [(EntityId(entity_id), tag) for entity_id, tag in rows]
