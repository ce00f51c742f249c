"""Reads from the journal how many shards it has: its tags are the only place that knows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import Tagged, shards_of_journal
from cos_ray.postgres.database import Database, PlainConnection, one_line, plain_session
from cos_ray.postgres.statements import statement

logger = logging.getLogger(__name__)

NEWEST = 5_000
"""How many of the newest rows are looked at."""

_MOST_NAMED = 20


def shards_of_database(database: Database, configured: int | None) -> int:
    """
    The number of shards to go on with; the schema is in place. Logs which entities it does not explain.

    Raises StartFailed when no number explains the tags well enough, or `configured` does not.
    """
    try:
        with plain_session(database, reads_only=True) as connection:
            tagged = newest_tags(connection)
    except psycopg.Error as error:
        raise StartFailed(f"the journal's tags cannot be read: {one_line(error)}") from error
    found = shards_of_journal(tagged, configured)
    if found.strays:
        logger.warning(
            "entities with tags of another shard: a read side that starts anew may see their later events "
            "before the older ones",
            extra={
                "shards": found.shards,
                "how_many": len(found.strays),
                "entities": [f"{entity_id} (tag {tag})" for entity_id, tag in found.strays[:_MOST_NAMED]],
            },
        )
    return found.shards


def newest_tags(connection: PlainConnection) -> Sequence[Tagged]:
    """The entities and tags of the newest rows."""
    rows = connection.execute(statement("newest_tags"), {"limit": NEWEST}).fetchall()
    return [(EntityId(entity_id), tag) for entity_id, tag in rows]
