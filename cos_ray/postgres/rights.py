"""
Which rights the service's role needs on what, and which of them it lacks.

Asked at the start, so that a role that may too little is refused in a line that says what it lacks,
and by `/ready`, for rights can be taken away at any time. deploy/roles.sql grants what is listed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database, PlainConnection, one_line, plain_session
from cos_ray.postgres.statements import statement

_MOST_NAMED = 6


class Use(Enum):
    """What a service does with its database; how it is configured decides."""

    SERVING = auto()
    """Commands, states, subscriptions, histories."""
    SNAPSHOTS = auto()
    DELETION = auto()
    """Of events that snapshots have made dispensable."""
    READ_SIDES = auto()
    ERASURE = auto()


class Right(NamedTuple):
    """A privilege on an object of the schema."""

    kind: str
    """schema, table, sequence or function, as `grant` has it."""
    name: str
    """Of a sequence also the table whose serial column it feeds."""
    privilege: str


NO_POLICIES = "row security"
"""A right to be without: no policy hides the table's rows from the role."""


def _on_tables(privileges: str, *names: str) -> tuple[Right, ...]:
    asked = [*privileges.split(), NO_POLICIES]
    return tuple(Right("table", name, privilege) for name in names for privilege in asked)


def _on_functions(*names: str) -> tuple[Right, ...]:
    return tuple(Right("function", name, "execute") for name in names)


RIGHTS: Mapping[Use, Sequence[Right]] = {
    Use.SERVING: (
        *_on_tables("select insert", "event_journal", "event_tag", "cos_entities"),
        *_on_tables("select insert update delete", "cos_idempotency_keys"),
        *_on_tables("select insert", "cos_type_changes", "cos_journal_writers"),
        Right("sequence", "event_journal", "usage"),
        *_on_functions("cos_append", "cos_append_with_keys", "cos_append_some", "cos_lock_shards"),
        *_on_functions("cos_has_event", "cos_state_type", "cos_varint"),
    ),
    Use.SNAPSHOTS: (
        *_on_tables("select insert update delete", "state_snapshot"),
        *_on_tables("select", "cos_erased_entities"),
        *_on_functions("cos_save_snapshots", "cos_lock_entities"),
    ),
    Use.DELETION: _on_functions("cos_delete_events"),
    Use.READ_SIDES: (
        *_on_tables("select insert update", "read_side_offsets", "read_sides", "cos_read_side_releases"),
        *_on_tables("select insert update delete", "cos_read_side_claims", "cos_dead_letters"),
        *_on_tables("select insert delete", "cos_skipped_events"),
        *_on_tables("select insert update", "cos_read_side_losses"),
        *_on_tables("select", "cos_deletions", "cos_erased_entities"),
        Right("sequence", "cos_read_side_runs", "usage"),
        *_on_functions("cos_set_aside", "cos_lock_entities", "cos_erased_payload"),
    ),
    Use.ERASURE: (
        *_on_tables("select insert", "cos_erased_entities"),
        *_on_functions("cos_record_erasure", "cos_lock_entities", "cos_redact", "cos_finish_erasure"),
    ),
}
"""What each use needs. A table, sequence or function of ours that is missing here is not asked for."""


def question(schema: str, uses: Collection[Use]) -> dict[str, object]:
    """The parameters of `lacking_rights.sql`: which of the rights for these uses are lacking?"""
    asked = [
        Right("schema", schema, "usage"),
        *(right for use in Use if use in uses for right in RIGHTS[use]),
    ]
    kinds, names, privileges = zip(*asked, strict=True)
    return {"schema": schema, "kinds": list(kinds), "names": list(names), "privileges": list(privileges)}


def fault_of_rights(rows: Sequence[Sequence[Any]], database: Database) -> str | None:
    """What `lacking_rights.sql` answered, in a line that says what to do; None if nothing is lacking."""
    lacking = [Right(kind, name, privilege) for kind, name, privilege, is_missing in rows if not is_missing]
    if rights := [right for right in lacking if right.privilege != NO_POLICIES]:
        return _lacking(rights, database)
    if lacking:
        return _hidden([right.name for right in lacking], database)
    if rows:
        return _missing(dict.fromkeys(f"{kind} {name}" for kind, name, _, _ in rows), database)
    return None


def require_rights(database: Database, uses: Collection[Use]) -> None:
    """Raises StartFailed with one line when the role lacks what these uses need; the schema is in place."""
    try:
        with plain_session(database, reads_only=True) as connection:
            fault = fault_of_rights(lacking_rights(connection, database, uses), database)
    except psycopg.Error as error:
        raise StartFailed(f"the rights in {database} cannot be read: {one_line(error)}") from error
    if fault is not None:
        raise StartFailed(fault)


def lacking_rights(
    connection: PlainConnection, database: Database, uses: Collection[Use]
) -> Sequence[tuple[Any, ...]]:
    """The rows of `lacking_rights.sql`."""
    return connection.execute(statement("lacking_rights"), question(database.schema, uses)).fetchall()


def _lacking(rights: Sequence[Right], database: Database) -> str:
    told = _listed(f"{right.privilege} on {right.kind} {right.name}" for right in rights)
    first, role = rights[0], sql.Identifier(database.user).as_string()
    name = sql.Identifier(*([first.name] if first.kind == "schema" else [database.schema, first.name]))
    return (
        f"the role {database.user} lacks rights {_where(database)}: {told}. Run deploy/roles.sql, or as the "
        f"owner: grant {first.privilege} on {first.kind} {name.as_string()} to {role}"
        + (" (and so on)" if len(rights) > 1 else "")
    )


def _hidden(tables: Sequence[str], database: Database) -> str:
    role = sql.Identifier(database.user).as_string()
    return (
        f"row-level security may hide rows of {_listed(tables)} {_where(database)} from the role "
        f"{database.user}: alter table ... disable row level security, or alter role {role} bypassrls"
    )


def _missing(objects: Iterable[str], database: Database) -> str:
    return f"{_listed(objects)} {_where(database)} is missing, which cos_ray has made once: restore it"


def _where(database: Database) -> str:
    return f"in the schema {database.schema} of {database}"


def _listed(names: Iterable[str]) -> str:
    told = list(names)
    more = f" and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
    return ", ".join(told[:_MOST_NAMED]) + more
