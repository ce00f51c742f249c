"""
Waits, once at the start, for transactions that write to the journal and are not ours.

A Chief of State that is just going away may not yet have committed an event whose offset is lower
than those that readers are about to see. Whoever inserts holds a lock on the table before the
offset is allocated, and until the row can be seen: with the lock gone, so is the danger. Later
rows come through our own append function, whose locks keep them in order.
"""

from __future__ import annotations

import time
from datetime import timedelta

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import PlainConnection
from cos_ray.postgres.statements import statement

PATIENCE = timedelta(seconds=60)
"""How long such a transaction may take before starting fails."""

_LOOK_AGAIN = 0.01


def wait_for_foreign_writers(connection: PlainConnection) -> None:
    """Return when the transactions that write to the journal now are over. Raises StartFailed."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    waited_for = writers(connection)
    while still := waited_for & writers(connection):
        if time.monotonic() > deadline:
            raise StartFailed(f"{described(still)} keeps a transaction open that writes to event_journal")
        time.sleep(_LOOK_AGAIN)


def writers(connection: PlainConnection) -> frozenset[tuple[str, int | None]]:
    """The transactions of others that have written to the journal and are not over."""
    rows = connection.execute(statement("writers")).fetchall()
    return frozenset((transaction, pid) for transaction, pid in rows)


def described(found: frozenset[tuple[str, int | None]]) -> str:
    """One of them, so that a person finds it."""
    processes = [pid for _, pid in found if pid is not None]
    if processes:
        return f"the database's process {min(processes)}"
    return "a prepared transaction (see pg_prepared_xacts)"
