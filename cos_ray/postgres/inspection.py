"""
Looks a database over before it is taken over: what is there, what is odd, and whether we would start.

Reads only, and in one read-only transaction: everything it tells was true at one and the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import ReadSideId
from cos_ray.domain.sharding import explaining_counts, likeliest_count, nearest_count, shards_of_journal
from cos_ray.postgres.database import Database, PlainConnection, one_line, plain_session
from cos_ray.postgres.foreign_writers import described, writers
from cos_ray.postgres.migrations import Schema, pending_steps, schema_in
from cos_ray.postgres.preconditions import faults_of_journal, require_utf8
from cos_ray.postgres.report import Journal, ReadSideReport, ReadSideShard, Report, Tally
from cos_ray.postgres.rights import Use, fault_of_rights, lacking_rights
from cos_ray.postgres.row_faults import JournalRow, SnapshotRow, oddities_of, oddities_of_snapshot
from cos_ray.postgres.shard_count import newest_tags
from cos_ray.postgres.statements import statement
from cos_ray.postgres.type_tally import TypeTally

SAMPLE = 20_000
"""How many of the newest rows, and how many snapshots, are looked at unless all are asked for."""

COUNTED = 1_000_000
"""Up to how many rows are counted in passing."""

_AT_ONCE = 500
_MOST_COUNTS = 10


def inspect(
    database: Database,
    configured_shards: int | None,
    read_sides: Sequence[ReadSideId],
    *,
    full: bool = False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """
    Look at the whole schema, and at the newest rows or, if `full`, at all.

    `on_progress` hears now and then how many rows have been looked at. Raises StartFailed when the
    database cannot be reached or does not let us read.
    """
    try:
        with plain_session(database, reads_only=True) as connection:
            return _Inspection(connection, database, full, on_progress).run(configured_shards, read_sides)
    except psycopg.Error as error:
        raise StartFailed(
            f"the schema {database.schema} of {database} cannot be read: {one_line(error)}"
        ) from error


class _Inspection:
    def __init__(
        self, connection: PlainConnection, database: Database, full: bool, on_progress: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._database = database
        self._limit = None if full else SAMPLE
        self._on_progress = on_progress
        self._report = Report(str(database), database.schema)

    def run(self, configured_shards: int | None, read_sides: Sequence[ReadSideId]) -> Report:
        report = self._report
        require_utf8(self._connection, self._database)
        schema = schema_in(self._connection, self._database)
        report.chief_of_state_version, report.cos_ray_steps = schema.chief_of_state, sorted(schema.ours)
        if self._is_ours_to_open(schema) and "event_journal" in schema.tables:
            self._report.reasons += faults_of_journal(self._connection, self._database)
            self._look_at_shards(configured_shards)
            self._look_at_rows(schema.tables)
            self._look_at_read_sides(read_sides)
            report.rights_lacking = self._rights_lacking(bool(read_sides))
            report.waits_for = [described(frozenset({writer})) for writer in writers(self._connection)]
        report.would_start = not report.reasons
        return report

    def _rights_lacking(self, has_read_sides: bool) -> str | None:
        if self._report.pending_steps:
            return None  # what is yet to be made has no rights yet
        uses = {Use.SERVING, Use.READ_SIDES} if has_read_sides else {Use.SERVING}
        return fault_of_rights(lacking_rights(self._connection, self._database, uses), self._database)

    def _is_ours_to_open(self, schema: Schema) -> bool:
        self._reason_of(lambda: self._report.pending_steps.extend(pending_steps(schema, self._database)))
        return not self._report.reasons

    def _reason_of(self, attempt: Callable[[], None]) -> None:
        """Do what a start does; if it would fail there, note why."""
        try:
            attempt()
        except StartFailed as error:
            self._report.reasons.append(str(error))

    def _look_at_shards(self, configured: int | None) -> None:
        tagged = newest_tags(self._connection)
        self._report.counts_that_explain = list(explaining_counts(tagged)[:_MOST_COUNTS])
        self._report.shards_are_configured = configured is not None

        def decide() -> None:
            found = shards_of_journal(tagged, configured)
            self._report.shards, self._report.tags_unexplained = found.shards, len(found.strays)

        self._reason_of(decide)
        judge = self._report.shards or likeliest_count(explaining_counts(tagged)) or nearest_count(tagged)
        self._report.tags_are_judged_by = judge

    def _look_at_rows(self, tables: frozenset[str]) -> None:
        report = self._report
        report.journal = self._journal()
        events, snapshots, types = Tally(), Tally(), TypeTally()
        for values in self._stream("inspect_rows"):
            row = JournalRow(*values)
            events.count(oddities_of(row, report.tags_are_judged_by), row.entity_id, row.sequence_number)
            types.count(row)
            report.rows_examined += 1
            if report.rows_examined % _AT_ONCE == 0:
                self._on_progress(report.rows_examined)
        for values in self._stream("inspect_snapshots"):
            snapshot = SnapshotRow(*values)
            snapshots.count(oddities_of_snapshot(snapshot), snapshot.entity_id, snapshot.sequence_number)
        report.is_complete = self._limit is None or report.rows_examined < self._limit
        report.odd_rows, report.odd_snapshots = events.result(), snapshots.result()
        report.type_changes = types.result(self._noted_type_changes(tables))

    def _noted_type_changes(self, tables: frozenset[str]) -> list[tuple[Any, ...]]:
        """Those on record, where there is one."""
        [(self._report.is_taken_over,)] = self._rows("chief_of_state_wrote", None)
        ours = {"cos_type_changes", "cos_journal_writers"}
        # A role that may read Chief of State's tables need not be one that may read ours.
        if not (ours <= tables and all(self._may_read(table) for table in ours)):
            return []
        any_change = {"old": "", "new": ""}
        [(_, is_noted)] = self._connection.execute(statement("type_change"), any_change).fetchall()
        self._report.is_taken_over = self._report.is_taken_over or is_noted
        return self._rows("inspect_type_changes", None)

    def _may_read(self, table: str) -> bool:
        [(may,)] = self._connection.execute("select has_table_privilege(%s, 'select')", [table]).fetchall()
        return bool(may)

    def _journal(self) -> Journal:
        limit = None if self._limit is None else COUNTED + 1
        [(counted, newest, believed, snapshots, with_snapshots)] = self._rows("inspect_totals", limit)
        is_counted = limit is None or counted < limit
        return Journal(
            rows=counted if is_counted else max(counted, believed),
            rows_are_estimated=not is_counted,
            entities=self._rows("inspect_entities", None)[0][0] if is_counted else None,
            newest_offset=newest,
            snapshots=snapshots,
            entities_with_snapshots=with_snapshots,
            events_of_shard=dict(self._rows("inspect_shards", None)),
        )

    def _look_at_read_sides(self, configured: Sequence[ReadSideId]) -> None:
        journal = self._report.journal
        assert journal is not None
        found: dict[str, dict[str, ReadSideShard]] = {read_side: {} for read_side in configured}
        for read_side, key, offset, reached, paused, behind in self._rows("inspect_read_sides", None):
            fault = self._fault_of_offset(key, offset, reached, journal.newest_offset)
            found.setdefault(read_side, {})[key] = ReadSideShard(key, offset, behind, paused, fault)
        for read_side, shards in sorted(found.items()):
            for shard in range(self._report.tags_are_judged_by or 0):
                events = journal.events_of_shard.get(str(shard), 0)
                shards.setdefault(str(shard), ReadSideShard(str(shard), None, events, paused=False))
            behind = sum(shard.behind for shard in shards.values())
            in_order = sorted(shards.values(), key=lambda shard: (len(shard.shard), shard.shard))
            self._report.read_sides.append(
                ReadSideReport(read_side, read_side in configured, behind, in_order)
            )

    def _fault_of_offset(self, key: str, offset: str | None, reached: int | None, newest: int) -> str:
        shards = self._report.tags_are_judged_by
        if shards is not None and not (key.isdecimal() and int(key) < shards):
            return "no shard of this journal"
        if offset is not None and reached is None:
            return "an offset that is no number: the read side cannot start"
        if reached is not None and reached > newest:
            return f"beyond the journal's newest offset, {newest}: what comes up to there would be skipped"
        return ""

    def _rows(self, name: str, limit: int | None) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement(name), {"limit": limit}).fetchall()

    def _stream(self, name: str) -> Iterator[tuple[Any, ...]]:
        with self._connection.cursor(name, binary=True) as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(statement(name), {"limit": self._limit})
            yield from cursor
