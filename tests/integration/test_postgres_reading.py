"""Every question put to the journal finds its rows by an index, however large the journal is."""

from __future__ import annotations

import re

import pytest

from cos_ray.postgres.database import Database
from cos_ray.postgres.statements import statement
from tests.support.fixtures_postgres import connected

ENTITY = {"entity_id": "a"}
KNOWN = {"known_offset": 3, "known_entity": "a", "known_number": 1, "known_written": 1}
PAGE = {"limit": 10, "octets": 1000}
LETTERS = {"read_side": "r", **PAGE}


@pytest.mark.parametrize(
    ("name", "parameters", "index"),
    [
        ("history", {**ENTITY, "first": 3, **PAGE}, "event_journal_pkey"),
        ("events_of", {**ENTITY, "first": 3, **PAGE}, "event_journal_pkey"),
        ("of_entity", {**ENTITY, "first": 3, "up_to": 9, **PAGE, **KNOWN}, "event_journal_pkey"),
        ("before", {**ENTITY, "before": 3, "moment": 9, **PAGE}, "event_journal_pkey"),
        ("span_of", {**ENTITY, "up_to": 9}, "event_journal_pkey"),
        ("between", {"after": 3, "up_to": 9, **PAGE, **KNOWN}, "event_journal_ordering_idx"),
        ("dead_letters", LETTERS, "cos_dead_letters"),
        ("dead_letters_of", {**ENTITY, **LETTERS}, "cos_dead_letters"),
        ("at_revision", {**ENTITY, "revision": 3}, "event_journal_pkey"),
        ("stored_by", {**ENTITY, "command_id": "c"}, "event_journal_pkey"),
        ("newest", {"entity_ids": ["a", "b"], "octets": 1000}, "event_journal_pkey"),
        ("after", {"tag": "1", "offset": 3, **PAGE, **KNOWN}, "cos_event_tag"),
        ("first_since", {"date": 3, "place": 0, "limit": 10}, "cos_event_journal_by_date"),
        ("places_since", {"tags": ["1"], "since": 3, "first": 1, "most": 10}, "cos_event_tag"),
    ],
)
def test_it_is_read_by_the_right_index(
    database: Database, name: str, parameters: dict[str, object], index: str
) -> None:
    with connected(database) as connection:
        connection.execute("set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off")
        rows = connection.execute(b"explain " + statement(name).encode(), parameters).fetchall()
    plan = "\n".join(str(line) for (line,) in rows)
    assert index in plan
    # Not just walked along: narrowed down by it.
    assert re.search(r"Index Cond: .*(persistence_id|tag|ordering|read_side|write_timestamp)", plan), plan
    assert not re.search(r"Seq Scan on (event|cos_dead|state)", plan), plan
    if name in {"history", "events_of", "of_entity", "before", "between", "dead_letters", "dead_letters_of"}:
        assert "Sort" not in plan, plan
