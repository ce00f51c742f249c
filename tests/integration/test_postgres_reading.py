"""Every question put to the journal finds its rows by an index, however large the journal is."""

from __future__ import annotations

import re

import pytest

from cos_ray.postgres.database import Database
from cos_ray.postgres.statements import statement
from tests.fixtures_postgres import connected

ENTITY = {"entity_id": "a"}
KNOWN = {"known_offset": 3, "known_entity": "a", "known_number": 1, "known_written": 1}


@pytest.mark.parametrize(
    ("name", "parameters", "index"),
    [
        ("history", {**ENTITY, "first": 3, "limit": 10}, "event_journal_pkey"),
        ("at_revision", {**ENTITY, "revision": 3}, "event_journal_pkey"),
        ("stored_by", {**ENTITY, "command_id": "c"}, "event_journal_pkey"),
        ("newest", [["a", "b"]], "event_journal_pkey"),
        ("after", {"tag": "1", "offset": 3, "limit": 10, **KNOWN}, "cos_event_tag"),
        ("first_since", {"date": 3, "place": 0, "limit": 10}, "cos_event_journal_by_date"),
        ("places_since", {"tags": ["1"], "since": 3, "first": 1, "most": 10}, "cos_event_tag"),
        ("of_entity", {**ENTITY, "first": 3, "up_to": 9, "limit": 10, **KNOWN}, "event_journal_pkey"),
    ],
)
def test_it_is_read_by_the_right_index(
    database: Database, name: str, parameters: dict[str, object] | list[object], index: str
) -> None:
    with connected(database) as connection:
        connection.execute("set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off")
        rows = connection.execute(b"explain " + statement(name).encode(), parameters).fetchall()
    plan = "\n".join(str(line) for (line,) in rows)
    assert index in plan
    # Not just walked along: narrowed down by it.
    assert re.search(r"Index Cond: .*(persistence_id|tag|write_timestamp)", plan), plan
    assert "Seq Scan" not in plan
