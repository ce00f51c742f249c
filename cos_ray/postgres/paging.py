"""Reads rows with payloads in pages that end for their bytes, and become smaller on a slow wire."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

from typing_extensions import LiteralString

from cos_ray.domain.pages import Page
from cos_ray.postgres.connections import Connections, OutOfStatementTime, Rows
from cos_ray.postgres.database import STATEMENT_TIMEOUT

logger = logging.getLogger(__name__)


async def read_page(
    connections: Connections, query: LiteralString, parameters: Mapping[str, object]
) -> Page[tuple[object, ...]]:
    """
    The rows of a query that takes `limit` and `octets`, and whether there may be more of them.

    Its rows end where their payloads come to `octets` bytes, the first of them always comes, and their
    last column is how many bytes they come to. Raises JournalUnavailable. A page that the server gives
    up for its time is asked for again, smaller; after one that never came the next will be smaller.
    """
    size = connections.page_size
    limit = int(str(parameters["limit"]))
    while True:
        rows_wanted = size.rows(limit)
        bounded = {**parameters, "limit": rows_wanted, "octets": size.octets}
        octets, begun = size.octets, time.monotonic()
        try:
            rows = await _run(connections, query, bounded, size.time)
        except OutOfStatementTime as error:
            size.ran_out_of_time()
            facts = {"reason": str(error), "octets": octets, "next": size.octets, "seconds": size.time}
            logger.info("a page of the journal took too long", extra=facts)
            if error.is_cut or (size.is_one_row and octets == size.octets):
                raise
            continue
        size.took(time.monotonic() - begun)
        has_more = bool(rows) and (len(rows) == rows_wanted or rows[-1][-1] >= octets)
        return Page((row[:-1] for row in rows), has_more=has_more)


async def _run(
    connections: Connections, query: LiteralString, parameters: Mapping[str, object], seconds: float
) -> Rows:
    if seconds <= STATEMENT_TIMEOUT.total_seconds():
        return await connections.run(query, parameters)
    return await connections.run(query, parameters, timedelta(seconds=seconds))
