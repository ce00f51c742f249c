"""`cos-ray journal check` and `migrate`, on databases as Chief of State leaves them behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import ReadSideId
from cos_ray.postgres import inspection
from cos_ray.postgres.database import Database
from cos_ray.postgres.inspection import inspect
from cos_ray.postgres.migrations import migrate, planned
from cos_ray.postgres.statements import migrations
from tests.support.chief_of_state import ODD_ID, ChiefOfState, left_behind
from tests.support.fixtures_postgres import connected

OURS = [migration.name for migration in migrations()]


@pytest.fixture(params=[9, 16])
def old(request: pytest.FixtureRequest, empty_database: Database) -> ChiefOfState:
    return left_behind(empty_database, request.param)


@pytest.fixture
def reader(old: ChiefOfState) -> Iterator[Database]:
    """The database as a role sees it that may read and nothing else, not even by default."""
    schema, role = sql.Identifier(old.database.schema), sql.Identifier("reader of a journal")
    with connected(old.database) as connection:
        connection.execute(sql.SQL("create role {} login password 'secret'").format(role))
        connection.execute(sql.SQL("alter role {} set default_transaction_read_only = on").format(role))
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(schema, role))
        connection.execute(sql.SQL("grant select on all tables in schema {} to {}").format(schema, role))
    yield replace(old.database, user="reader of a journal", password="secret")
    with connected(old.database) as connection:
        connection.execute(sql.SQL("drop owned by {}").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


def run(database: Database, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As users run it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COS_")}
    environment |= {
        "COS_DB_HOST": database.host,
        "COS_DB_PORT": str(database.port),
        "COS_DB_NAME": database.name,
        "COS_DB_SCHEMA": database.schema,
        "COS_DB_USER": database.user,
        "COS_DB_PASSWORD": database.password,
        **variables,
    }
    command = [sys.executable, "-m", "cos_ray", "journal", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def contents(database: Database) -> list[Any]:
    """Everything in the schema."""
    with connected(database) as connection:
        tables = connection.execute(
            "select tablename::text from pg_tables where schemaname = current_schema() order by 1"
        ).fetchall()
        return [
            (
                name,
                connection.execute(
                    sql.SQL("select * from {} t order by t::text").format(sql.Identifier(str(name)))
                ).fetchall(),
            )
            for (name,) in tables
        ]


def odd(found: list[Any]) -> dict[str, int]:
    return {one.what: one.rows for one in found}


def test_a_role_that_may_only_read_is_told_everything_and_nothing_is_changed(
    old: ChiefOfState, reader: Database
) -> None:
    before = contents(old.database)
    ended = run(
        reader,
        "check",
        "--json",
        "--full",
        COS_READ_SIDE_ENABLED="true",
        COS_READ_SIDE_CONFIG__HOST__ahead="h",
        COS_READ_SIDE_CONFIG__PORT__ahead="1",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    report = json.loads(ended.stdout)
    assert report["would_start"] is True
    assert report["reasons"] == []
    assert (report["chief_of_state_version"], report["cos_ray_steps"]) == (6, [])
    assert report["pending_steps"] == OURS
    assert (report["shards"], report["counts_that_explain"]) == (old.shards, [old.shards])
    assert (report["rows_examined"], report["is_complete"]) == (36, True)
    journal = report["journal"]
    assert (journal["rows"], journal["entities"], journal["newest_offset"]) == (36, 31, 36)
    assert (journal["snapshots"], journal["entities_with_snapshots"]) == (1, 1)
    assert sum(journal["events_of_shard"].values()) == 36
    assert {one["what"]: one["rows"] for one in report["odd_rows"]} == {
        "revision number that differs from the sequence number": 2,
        "`data` entries in the metadata": 1,
        **({"negative tag": 1} if old.shards == 9 else {}),
    }
    assert report["odd_snapshots"] == []
    ahead, behind = report["read_sides"]
    assert (ahead["read_side"], ahead["is_configured"], ahead["behind"]) == ("ahead", True, 0)
    assert len(ahead["shards"]) == old.shards
    assert (behind["read_side"], behind["is_configured"]) == ("behind", False)
    of_order_3 = journal["events_of_shard"][old.tag("order-3")]
    negative = 1 if old.shards == 9 else 0
    assert behind["behind"] == 36 - negative - of_order_3 + 1
    assert [shard["paused"] for shard in behind["shards"]] == [True] + [False] * (old.shards - 1)
    assert contents(old.database) == before


def test_the_tables_can_be_read(old: ChiefOfState, reader: Database) -> None:
    ended = run(reader, "check")
    assert ended.returncode == 0
    lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    assert f"shards {old.shards}; the newest tags are explained by {old.shards}" in lines
    assert "events 36, the newest at offset 36" in lines
    assert "events looked at 36, all of them" in lines
    assert f"to be done first {', '.join(OURS)} (by the owner of the tables)" in lines
    assert any(
        line.startswith("revision number that differs from the sequence number 2 order-1 at")
        for line in lines
    )
    assert any(line.startswith("ahead no 0 no nothing 0: 36, 1: 36") for line in lines)
    assert lines[-1] == "serve would start"


def test_why_serve_would_not_start_is_said_last(old: ChiefOfState, reader: Database) -> None:
    ended = run(reader, "check", COS_NUM_SHARDS="25")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == (
        "serve would not start: COS_NUM_SHARDS is '25', which does not explain the tags of the journal's"
        f" newest 36 rows; allowed: {old.shards}"
    )


def test_a_database_out_of_reach_is_one_line(old: ChiefOfState) -> None:
    ended = run(replace(old.database, password="wrong"), "check")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "password authentication failed" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("versions", "said"),
    [((3, 5), "start a Chief of State that brings it to version 6"), ((7,), "a newer cos_ray is needed")],
)
def test_other_versions_are_refused_with_what_to_do(
    empty_database: Database, versions: tuple[int, ...], said: str
) -> None:
    ChiefOfState(empty_database, 16).make_tables(*versions)
    report = inspect(empty_database, None, [])
    assert not report.would_start
    assert said in report.reasons[0]
    assert report.chief_of_state_version == max(versions)
    assert report.journal is None
    ended = run(empty_database, "migrate", "--dry-run")
    assert ended.returncode == 1
    assert said in ended.stderr


def test_an_empty_schema_is_one_to_start_on(empty_database: Database) -> None:
    report = inspect(empty_database, None, [])
    assert report.would_start
    assert report.pending_steps == ["schema", "chief_of_state", *OURS]
    assert run(empty_database, "check").returncode == 0


def test_every_oddity_of_a_row_is_found(old: ChiefOfState) -> None:
    def change(entity: str, change: str) -> None:
        old.run(f"update event_journal set {change} where persistence_id = '{entity}'")

    change("order-10", "event_ser_id = 17")
    change("order-11", "event_ser_manifest = 'java.lang.String'")
    change("order-12", "adapter_manifest = 'v1'")
    change("order-13", "meta_ser_id = 4, meta_ser_manifest = '', meta_payload = ''")
    change("order-14", "event_payload = '\\xff'")
    change("order-15", "deleted = true")
    change("order-16", "sequence_number = 8")
    old.numbers["order-17"] = 5
    old.command("order-17")
    old.run("update event_journal set persistence_id = 'renamed' where persistence_id = 'order-18'")
    tags = "event_tag {} event_id = (select ordering from event_journal where persistence_id = '{}')"
    old.run("delete from " + tags.format("where", "order-19"))
    old.run("update " + tags.format("set tag = '16' where", "order-20"))
    old.run("insert into event_tag select event_id, '0' || tag from " + tags.format("where", "order-21"))
    report = inspect(old.database, old.shards, [], full=True)
    found = odd(report.odd_rows)
    assert found.pop("revision number that differs from the sequence number") == 4
    assert found.pop("negative tag", 1) == 1
    # A renamed entity, one of too high a number, one of a tag like "05".
    assert found.pop("tag that the shard count does not explain") in (2, 3)
    assert found == {
        "serializer id other than 5001": 1,
        "serializer manifest other than EventWrapper's": 1,
        "adapter manifest that is not empty": 1,
        "serialized metadata of Akka": 1,
        "payload that is no EventWrapper": 1,
        "marked as deleted": 1,
        "first of a history whose beginning was deleted": 1,
        "gap before it in its entity's history": 1,
        "metadata that names another entity": 1,
        "no tag": 1,
        "several tags": 1,
        "`data` entries in the metadata": 1,
    }
    assert (report.would_start, report.shards) == (True, old.shards)
    assert report.tags_unexplained in (2, 3)


def test_every_oddity_of_a_snapshot_is_found(old: ChiefOfState) -> None:
    for entity, number, serializer, payload in (
        ("order-1", 9, 5001, b""),
        ("order-2", 1, 4, b""),
        ("order-3", 1, 5001, b"\xff"),
    ):
        old.run(
            "insert into state_snapshot values (%s, %s, 1, %s, 'chief_of_state.v1.StateWrapper', %s)",
            entity,
            number,
            serializer,
            payload,
        )
    assert odd(inspect(old.database, None, []).odd_snapshots) == {
        "newer than its entity's newest event": 1,
        "serializer id or manifest other than StateWrapper's": 1,
        "payload that is no StateWrapper": 1,
    }


def test_what_is_wrong_with_offsets_is_told(old: ChiefOfState) -> None:
    old.offset("r", 1, 1000)
    old.offset("r", 77, 1)
    old.run("insert into read_side_offsets values ('r', '2', 'x', 'SEQ', false, 1)")
    report = inspect(old.database, None, [ReadSideId("new")])
    new, r = report.read_sides[-2:]
    assert (new.is_configured, new.behind) == (True, 36 - (old.shards == 9))
    faults = {shard.shard: shard.fault for shard in r.shards if shard.fault}
    assert faults == {
        "1": "beyond the journal's newest offset, 36: what comes up to there would be skipped",
        "2": "an offset that is no number: the read side cannot start",
        "77": "no shard of this journal",
    }


def test_a_large_journal_is_sampled_and_said_to_be(
    old: ChiefOfState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SAMPLE", 10)
    monkeypatch.setattr(inspection, "COUNTED", 20)
    report = inspect(old.database, None, [])
    assert (report.rows_examined, report.is_complete) == (10, False)
    assert report.journal is not None
    assert (report.journal.rows_are_estimated, report.journal.entities) == (True, None)
    full = inspect(old.database, None, [], full=True)
    assert (full.rows_examined, full.is_complete) == (36, True)
    assert full.journal is not None
    assert (full.journal.rows, full.journal.entities) == (36, 31)


def test_a_transaction_that_writes_to_the_journal_now_is_named(old: ChiefOfState, reader: Database) -> None:
    with connected(old.database) as slow, slow.transaction():
        old.command("slow", connection=slow)
        report = inspect(reader, None, [])
        assert report.waits_for == [f"the database's process {slow.info.backend_pid}"]
        assert report.would_start


def test_a_dry_run_lists_the_steps_and_takes_none(old: ChiefOfState, reader: Database) -> None:
    before = contents(old.database)
    ended = run(reader, "migrate", "--dry-run")
    assert (ended.returncode, ended.stdout.splitlines()) == (0, [f"would do: {name}" for name in OURS])
    assert contents(old.database) == before
    ended = run(old.database, "migrate")
    assert (ended.returncode, ended.stdout.splitlines()) == (0, [f"done: {name}" for name in OURS])
    assert planned(old.database) == []
    for arguments in (["migrate"], ["migrate", "--dry-run"]):
        ended = run(old.database, *arguments)
        assert (ended.returncode, ended.stdout) == (0, "up to date: there is nothing to do\n")


def test_a_dry_run_does_not_wait_for_a_migration_under_way(old: ChiefOfState) -> None:
    with connected(old.database) as other, other.transaction():
        other.execute("lock table event_tag in share mode")
        assert planned(old.database) == OURS


def test_a_role_that_may_not_migrate_is_told_who_may(reader: Database) -> None:
    ended = run(reader, "migrate")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


def test_a_sequence_in_blocks_is_a_reason_not_to_start(old: ChiefOfState) -> None:
    migrate(old.database)
    old.run("alter sequence event_journal_ordering_seq cache 10")
    report = inspect(old.database, None, [])
    assert not report.would_start
    assert "cache 1" in report.reasons[0]
    with pytest.raises(StartFailed, match="cache 1"):
        planned(old.database)


def test_the_entity_with_a_negative_shard_is_the_example(empty_database: Database) -> None:
    old = left_behind(empty_database, 9)
    [negative] = [one for one in inspect(old.database, None, []).odd_rows if one.what == "negative tag"]
    assert negative.example == f"{ODD_ID} at 1"
