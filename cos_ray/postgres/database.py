"""
Which database it is, and how connections to it are made.

Every connection is in autocommit, looks into one schema only, and notices within seconds when the
other end is gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.stall_guard import cut_after

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
PlainConnection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

LOCK_TIMEOUT = timedelta(seconds=2)
"""How long a statement may wait for another's lock."""

STATEMENT_TIMEOUT = timedelta(seconds=5)
"""How long a statement may take; what a lost client left behind is over by then."""

CALL_LIMIT = STATEMENT_TIMEOUT + timedelta(seconds=2)
"""After that, a server that should have given up is taken for gone."""

_SET_UP_WITHIN = timedelta(seconds=3)

_ALWAYS = {
    # A policy that hides rows from us is an error, and never an entity that seems to have no events.
    "row_security": "off",
    # The append function must see what was committed while it waited for its locks.
    "default_transaction_isolation": "read committed",
}
"""Settings of every session, whatever it is for."""

_STRICT_COMMITS = """set_config(
    'synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false
)"""
"""A commit is confirmed when it is on disk, and no earlier; a stricter setting is left alone."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where the journal is, and how much of the server we may use."""

    host: str
    port: int = 5432
    name: str = "postgres"
    user: str = "postgres"
    password: str = field(default="", repr=False)
    schema: str = "public"
    sslmode: str = "prefer"
    """As libpq understands it: disable, prefer, require, verify-ca, verify-full."""
    pool_max_size: int = 5
    """Connections of one process; two are the least it works with."""
    pool_min_size: int = 1
    """Connections kept while there is nothing to do."""
    idle_timeout: timedelta = timedelta(minutes=1)
    """How long a connection beyond `pool_min_size` may rest before it is closed."""
    max_lifetime: timedelta = timedelta(minutes=2)
    """How old a connection may get before another takes its place."""
    prepare_threshold: int | None = 5
    """
    Statements are prepared on the server from that many uses on. None: never, as a connection
    pooler that hands out servers per transaction demands (it must keep session settings, though).
    """

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.name}"

    def connect_arguments(self) -> dict[str, Any]:
        """What `psycopg.connect` is called with."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": self.user,
            "password": self.password or None,
            "sslmode": self.sslmode,
            "application_name": "cos_ray",
            "connect_timeout": 3,
            # A server that vanished without a word is noticed within about ten seconds.
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            # Of several hosts, and after a failover: the one that takes writes.
            "target_session_attrs": "read-write",
            "autocommit": True,
            "prepare_threshold": self.prepare_threshold,
            # Ids are any text, whatever the role, the database or PGCLIENTENCODING would have instead.
            "client_encoding": "UTF8",
        }

    @property
    def search_path(self) -> str:
        """The setting by which every statement finds its tables. Temporary tables cannot step in."""
        return f"{sql.Identifier(self.schema).as_string()}, pg_temp"


async def set_up_session(
    connection: Connection, database: Database, more: Mapping[str, str] | None = None
) -> None:
    """
    Give a fresh connection the settings its statements rely on, and `more`.

    Raises psycopg.OperationalError, within seconds, when the server does not answer.
    """
    with cut_after(_SET_UP_WITHIN, connection):
        await _set_up_session(connection, database, more or {})


async def _set_up_session(connection: Connection, database: Database, more: Mapping[str, str]) -> None:
    settings = {
        "search_path": database.search_path,
        "lock_timeout": milliseconds(LOCK_TIMEOUT),
        "statement_timeout": milliseconds(STATEMENT_TIMEOUT),
        "idle_in_transaction_session_timeout": milliseconds(STATEMENT_TIMEOUT),
        # Every statement finds its rows by an index. A plan made while a table was small must not
        # go on reading all of it when it has grown.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "jit": "off",
        # With those, a plan does not depend on the values: none is made anew for every call.
        "plan_cache_mode": "force_generic_plan",
        **_ALWAYS,
    }
    if connection.info.server_version >= 140_000:
        # A statement whose client is gone is given up, not carried through.
        settings["client_connection_check_interval"] = "1000"
    if connection.info.server_version >= 170_000:
        # Shorter than the others, it would end the session instead of the statement.
        settings["transaction_timeout"] = "0"
    settings.update(more)
    await connection.execute(*_setting(settings), prepare=False)


def _setting(settings: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The statement that gives a session these settings, and commits that are safe, with its parameters."""
    calls = ", ".join([_STRICT_COMMITS, *["set_config(%s, %s, false)"] * len(settings)])
    return f"select {calls}".encode(), [word for setting in settings.items() for word in setting]


@contextmanager
def plain_session(database: Database, *, reads_only: bool = False) -> Iterator[PlainConnection]:
    """
    A connection for work at the start and for commands: it waits as long as it takes.

    With `reads_only` it can change nothing, sees one state of the database throughout, and does
    with a server that takes no writes.
    """
    arguments = database.connect_arguments()
    if reads_only:
        arguments |= {"target_session_attrs": "any", "autocommit": False}
    with psycopg.connect(**arguments) as connection:
        if reads_only:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        set_up_plain_session(connection, database)
        yield connection


def set_up_plain_session(connection: PlainConnection, database: Database) -> None:
    """Give a fresh connection what work at the start relies on, whatever its role and database are set to."""
    limits = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    if connection.info.server_version >= 170_000:
        limits.append("transaction_timeout")
    settings = {
        **dict.fromkeys(limits, "0"),
        **_ALWAYS,
        "search_path": database.search_path,
    }
    connection.execute(*_setting(settings))


def wait_until_reachable(database: Database, within: timedelta, on_retry: Callable[[str], None]) -> None:
    """
    Return once the database lets us in; `on_retry` hears why not yet.

    Raises StartFailed with one line: at once when waiting cannot help (wrong password, unknown
    database), else when it did not help for that long.
    """
    deadline = time.monotonic() + within.total_seconds()
    pause = 0.2
    while True:
        try:
            psycopg.connect(**database.connect_arguments()).close()
            return
        except psycopg.Error as error:
            reason = one_line(error)
            if any(word in reason for word in _HOPELESS):
                raise StartFailed(f"the database {database} does not let us in: {reason}") from error
            if time.monotonic() + pause >= deadline:
                seconds = f"{within.total_seconds():g}"
                raise StartFailed(
                    f"the database {database} cannot be reached for {seconds} seconds: {_explained(reason)}"
                ) from error
            on_retry(f"waiting for the database {database}: {reason}")
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, 2.0)


_HOPELESS = (
    "password authentication failed",
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
    "does not support SSL",
    "certificate verify failed",
    "root certificate file",
)
"""Known by their text, for a failed connection has no error code. In other languages they are waited out."""


def _explained(reason: str) -> str:
    if "read-only" in reason or "hot standby" in reason:
        return (
            f"{reason} (it takes no writes: it is a standby, or default_transaction_read_only is on "
            f"for the role or the database)"
        )
    return reason


def one_line(error: BaseException) -> str:
    """An error's text for a log line."""
    return " ".join(str(error).split()) or type(error).__name__


def milliseconds(duration: timedelta) -> str:
    """As a setting of a session has it."""
    return str(int(duration.total_seconds() * 1000))
