"""How a database gets its schema: new, shared, taken over from Chief of State, or refused."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId
from cos_ray.postgres import foreign_writers as module
from cos_ray.postgres import migrations as migrations_module
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate, planned
from cos_ray.postgres.statements import migrations, statement
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of

OURS = [migration.name for migration in migrations()]
STEPS = ["chief_of_state", *OURS]

COLUMNS = """
cos_migrations is_snapshot boolean YES -
cos_migrations upgraded_at bigint YES -
cos_migrations version_number integer NO -
event_journal adapter_manifest character varying(255) YES -
event_journal deleted boolean NO false
event_journal event_payload bytea NO -
event_journal event_ser_id integer NO -
event_journal event_ser_manifest character varying(255) NO -
event_journal meta_payload bytea YES -
event_journal meta_ser_id integer YES -
event_journal meta_ser_manifest character varying(255) YES -
event_journal ordering bigint NO nextval('event_journal_ordering_seq'::regclass)
event_journal persistence_id character varying(255) NO -
event_journal sequence_number bigint NO -
event_journal write_timestamp bigint YES -
event_journal writer character varying(255) NO -
event_tag event_id bigint NO -
event_tag tag character varying(256) NO -
read_side_offsets current_offset character varying(255) NO -
read_side_offsets last_updated bigint NO -
read_side_offsets manifest character varying(4) NO -
read_side_offsets mergeable boolean NO -
read_side_offsets projection_key character varying(255) NO -
read_side_offsets projection_name character varying(255) NO -
read_sides last_updated bigint NO -
read_sides paused boolean NO -
read_sides projection_key character varying(255) NO -
read_sides projection_name character varying(255) NO -
state_snapshot created bigint NO -
state_snapshot meta_payload bytea YES -
state_snapshot meta_ser_id integer YES -
state_snapshot meta_ser_manifest character varying(255) YES -
state_snapshot persistence_id character varying(255) NO -
state_snapshot sequence_number bigint NO -
state_snapshot snapshot_payload bytea NO -
state_snapshot snapshot_ser_id integer NO -
state_snapshot snapshot_ser_manifest character varying(255) NO -
"""

INDEXES = {
    "cos_deletions_pkey": "btree (tag)",
    "cos_entities_pkey": "btree (entity_id)",
    "cos_event_journal_by_date": "btree (write_timestamp, ordering)",
    "cos_read_side_losses_pkey": "btree (read_side, shard)",
    "cos_erased_entities_pkey": "btree (entity_id)",
    "cos_event_tag_by_tag": "btree (tag, event_id)",
    "cos_journal_writers_pkey": "btree (writer)",
    "cos_migrations_pkey": "btree (version_number)",
    "cos_dead_letters_by_place": "btree (read_side, ordering)",
    "cos_dead_letters_pkey": "btree (read_side, entity_id, sequence_number)",
    "cos_read_side_claims_pkey": "btree (read_side, shard)",
    "cos_read_side_releases_pkey": "btree (release)",
    "cos_idempotency_keys_by_expiry": "btree (expires_at)",
    "cos_idempotency_keys_pkey": "btree (entity_id, key)",
    "cos_skipped_events_by_place": "btree (read_side, shard, ordering)",
    "cos_skipped_events_pkey": "btree (read_side, entity_id, sequence_number)",
    "cos_ray_migrations_pkey": "btree (number)",
    "cos_type_changes_pkey": "btree (old_type, new_type)",
    "event_journal_ordering_idx": "btree (ordering)",
    "event_journal_pkey": "btree (persistence_id, sequence_number)",
    "event_tag_pkey": "btree (event_id, tag)",
    "projection_name_index": "btree (projection_name)",
    "read_side_offsets_pkey": "btree (projection_name, projection_key)",
    "read_sides_pkey": "btree (projection_name, projection_key)",
    "state_snapshot_pkey": "btree (persistence_id, sequence_number)",
}


def query(database: Database, text: str, *parameters: object) -> list[Any]:
    with connected(database) as connection:
        cursor = connection.execute(text.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def columns(database: Database) -> str:
    rows = query(
        database,
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod),"
        " case when a.attnotnull then 'NO' else 'YES' end, coalesce(pg_get_expr(d.adbin, d.adrelid), '-')"
        " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = current_schema() and c.relkind = 'r'"
        " and (c.relname = 'cos_migrations' or c.relname not like 'cos#_%' escape '#') order by 1, 2",
    )
    return "\n".join(" ".join(row) for row in rows)


def make_chief_of_state(database: Database, *versions: int) -> None:
    """What a Chief of State of these versions left behind, with an event in it."""
    with connected(database) as connection:
        connection.execute(f"create schema {database.search_path.split(',')[0]}".encode())
        connection.execute(statement("chief_of_state"))
        for version in versions:
            connection.execute("insert into cos_migrations values (%s, 1600000000000, false)", [version])
        connection.execute(
            "insert into event_journal (persistence_id, sequence_number, writer, write_timestamp,"
            " adapter_manifest, event_ser_id, event_ser_manifest, event_payload)"
            " values ('old', 1, 'w', 1, '', 5001, 'chief_of_state.v1.EventWrapper', '')"
        )
        connection.execute("insert into event_tag select ordering, '3' from event_journal")


def test_a_new_database_gets_chief_of_states_tables_and_our_part(empty_database: Database) -> None:
    assert migrate(empty_database) == ["schema", *STEPS]
    assert columns(empty_database).split("\n") == COLUMNS.strip().split("\n")
    [(version, date, is_snapshot)] = query(empty_database, "select * from cos_migrations")
    assert (version, is_snapshot) == (6, True)
    assert abs(date - time.time() * 1000) < 600_000  # milliseconds, and lately
    indexes = dict(
        query(
            empty_database, "select indexname, indexdef from pg_indexes where schemaname = current_schema()"
        )
    )
    assert {name: text[text.index("btree") :] for name, text in indexes.items()} == INDEXES
    assert "UNIQUE" in indexes["event_journal_ordering_idx"]
    [(constraint,)] = query(
        empty_database,
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'fk_event_journal'",
    )
    assert constraint == "FOREIGN KEY (event_id) REFERENCES event_journal(ordering) ON DELETE CASCADE"


def test_the_second_time_there_is_nothing_to_do(database: Database) -> None:
    before = query(database, "select * from cos_ray_migrations order by number")
    assert migrate(database) == []
    assert query(database, "select * from cos_ray_migrations order by number") == before


def test_many_threads_and_processes_at_once_do_it_once(empty_database: Database) -> None:
    script = (
        "import sys; from cos_ray.postgres.database import Database;"
        "from cos_ray.postgres.migrations import migrate;"
        "_, port, password, schema = sys.argv;"
        "print(len(migrate(Database('127.0.0.1', int(port), password=password, schema=schema))))"
    )
    arguments = [str(empty_database.port), empty_database.password, empty_database.schema]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) for _ in range(2)
    ]
    with ThreadPoolExecutor(8) as pool:
        in_threads = [len(steps) for steps in pool.map(migrate, [empty_database] * 8)]
    in_processes = [int(process.communicate(timeout=30)[0]) for process in processes]
    assert sorted(in_threads + in_processes) == [0] * 9 + [len(STEPS) + 1]


async def test_a_chief_of_state_database_is_opened_in_place(empty_database: Database) -> None:
    make_chief_of_state(empty_database, 4, 5, 6)
    tables = columns(empty_database)
    assert migrate(empty_database) == OURS
    assert columns(empty_database) == tables
    assert query(empty_database, "select entity_id from cos_entities") == [("old",)]
    assert query(empty_database, "select count(*), max(upgraded_at) from cos_migrations") == [
        (3, 1600000000000)
    ]
    journal = PostgresJournal(empty_database)
    await journal.open()
    assert await journal.append(append_of("old", 1)) == 2
    newest = await journal.newest(EntityId("old"))
    assert newest is not None
    assert newest.sequence_number == 2
    await journal.close()


@pytest.mark.parametrize("old_type", ["timestamptz", "timestamp", "bigint"])
def test_dates_of_chief_of_states_migrations_become_milliseconds_as_its_next_one_writes_them(
    database: Database, old_type: str
) -> None:
    """As our earlier releases made the table, with and without their record of having done so."""
    moment = "timestamptz '2026-01-02 03:04:05.678+00'"
    as_stored = {
        "timestamptz": moment,
        "timestamp": f"{moment} at time zone 'UTC'",
        "bigint": "1767323045678",
    }[old_type]
    query(database, "delete from cos_ray_migrations where number = 60")
    query(database, "drop table cos_migrations")
    query(
        database,
        "create table cos_migrations"
        f" (version_number integer primary key, upgraded_at {old_type}, is_snapshot boolean)",
    )
    query(database, f"insert into cos_migrations values (5, {as_stored}, false), (6, null, true)")
    steps = [migration.name for migration in migrations() if migration.number == 60]
    assert planned(database) == steps
    assert migrate(database) == steps
    # What Chief of State's next migration does.
    query(database, "insert into cos_migrations values (7, 1893456000000, false)")
    assert query(database, "select * from cos_migrations order by 1") == [
        (5, 1767323045678, False),
        (6, None, True),
        (7, 1893456000000, False),
    ]


def test_a_step_does_not_queue_for_ever_behind_a_backup(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations_module, "LOCKS_WITHIN", "50ms")
    query(database, "delete from cos_ray_migrations where number = 60")
    query(database, "alter table cos_migrations alter upgraded_at type timestamptz using null")
    with connected(database) as backup, backup.transaction():
        backup.execute("lock table cos_migrations in access share mode")
        with pytest.raises(StartFailed, match="in use by others for more than 50ms"):
            migrate(database)
    assert migrate(database)


def test_a_start_of_chief_of_state_that_broke_off_counts_as_new(empty_database: Database) -> None:
    make_chief_of_state(empty_database)
    query(empty_database, "drop table event_tag, event_journal")
    assert migrate(empty_database) == STEPS
    assert query(empty_database, "select version_number from cos_migrations") == [(6,)]


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ((3, 5), "is at Chief of State's version 5: start a Chief of State that brings it to version 6"),
        ((6, 7), "is at Chief of State's version 7, newer than 6"),
        ((), "holds the table event_journal but no version in cos_migrations"),
    ],
)
def test_other_versions_of_chief_of_state_are_refused_and_left_alone(
    empty_database: Database, versions: tuple[int, ...], said: str
) -> None:
    make_chief_of_state(empty_database, *versions)
    before = columns(empty_database)
    with pytest.raises(StartFailed, match=said) as caught:
        migrate(empty_database)
    assert "\n" not in str(caught.value)
    assert columns(empty_database) == before


def test_a_schema_of_a_newer_cos_ray_is_refused(database: Database) -> None:
    newer = migrations()[-1].number + 1
    query(database, "insert into cos_ray_migrations values (%s, 'to come', 'x')", newer)
    with pytest.raises(StartFailed, match="newer cos_ray"):
        migrate(database)


def test_a_step_that_has_changed_since_is_refused(database: Database) -> None:
    query(database, "update cos_ray_migrations set checksum = 'x' where number = 1")
    with pytest.raises(StartFailed, match=r"step 1 \(tag_index\) differs"):
        migrate(database)


def test_a_sequence_that_hands_out_blocks_is_refused(database: Database) -> None:
    query(database, "alter sequence event_journal_ordering_seq cache 10")
    with pytest.raises(StartFailed, match="cache 1"):
        migrate(database)


def test_a_database_that_does_not_allow_it_says_so_in_one_line(database: Database) -> None:
    with pytest.raises(StartFailed, match="cannot be set up") as caught:
        migrate(replace(database, name="no such database"))
    assert "\n" not in str(caught.value)


def test_transactions_of_a_leaving_chief_of_state_are_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    waits = threading.Event()
    writers = module.writers

    def observed(connection: Any) -> frozenset[tuple[str, int]]:
        found = writers(connection)
        if found:
            waits.set()
        return found

    monkeypatch.setattr(module, "writers", observed)

    def run() -> None:
        migrate(database)
        done.set()

    thread = threading.Thread(target=run)
    with connected(database) as old, old.transaction():
        old.execute(
            "insert into event_journal (persistence_id, sequence_number, writer, event_ser_id,"
            " event_ser_manifest, event_payload) values ('old', 1, 'w', 5001, 'm', '')"
        )
        thread.start()
        assert waits.wait(10)
        assert not done.is_set()
    assert done.wait(10)
    thread.join()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"password": "wrong"}, "password authentication failed"), ({"name": "nope"}, "does not exist")],
)
def test_what_waiting_cannot_help_fails_at_once(
    postgres_server: Database, change: dict[str, str], said: str
) -> None:
    retries: list[str] = []
    with pytest.raises(StartFailed, match=said) as caught:
        wait_until_reachable(replace(postgres_server, **change), timedelta(minutes=5), retries.append)  # type: ignore[arg-type]
    assert retries == []
    assert "\n" not in str(caught.value)


def test_a_database_that_is_not_there_is_waited_for_visibly(
    postgres_server: Database, unused_tcp_port: int
) -> None:
    retries: list[str] = []
    away = replace(postgres_server, port=unused_tcp_port)
    with pytest.raises(StartFailed, match=r"cannot be reached for 0\.5 seconds: .*refused"):
        wait_until_reachable(away, timedelta(seconds=0.5), retries.append)
    assert retries
    wait_until_reachable(postgres_server, timedelta(seconds=5), retries.append)


def test_a_password_is_not_shown(postgres_server: Database) -> None:
    assert postgres_server.password not in repr(postgres_server)
    assert postgres_server.password not in str(postgres_server)
