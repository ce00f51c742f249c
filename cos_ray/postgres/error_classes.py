"""What an error of Postgres says about the statement it answers."""

from __future__ import annotations

from enum import Enum, auto

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from cos_ray.postgres.database import Connection

FAILURES = (psycopg.Error, OSError, UnicodeError)
"""What a call of psycopg can raise; the last one before anything is sent."""


class Meaning(Enum):
    """What became of a statement that ended in an error."""

    LOST = auto()
    """The connection is gone: it may have been carried out, and may still be."""
    REFUSED = auto()
    """It was not carried out; the same may work later."""
    BAD_DATA = auto()
    """It was not carried out, for something in it is at fault, now and always."""
    TORN = auto()
    """It was not carried out, for others got in its way: again, in smaller pieces."""
    NOT_HERE = auto()
    """It was not carried out, and never will be by this server: it takes no writes."""
    BLOCKED = auto()
    """It was not carried out, for somebody else kept the lock of a shard for too long."""


_BAD_DATA_CLASSES = frozenset({"22", "23", "54"})
"""Data exception, integrity violation, program limit exceeded."""

_WHOEVER_ASKS = frozenset({"42501", "53100", "55P03", "57014"})
"""Lack of a right, a full disk, a lock that is held, too little time: any session is answered so."""

_END_OF_SESSION = frozenset({"FATAL", "PANIC"})


def meaning_of(error: BaseException, connection: Connection) -> Meaning:
    """Judge by the connection first: an error code says what was tried, not what was committed."""
    if isinstance(error, UnicodeError) and _is_usable(connection):
        return Meaning.BAD_DATA
    if not isinstance(error, psycopg.Error) or not _is_usable(connection):
        return Meaning.LOST
    if error.diag.severity_nonlocalized in _END_OF_SESSION:
        return Meaning.LOST
    state = error.sqlstate
    if state is None:
        # Raised by psycopg while it put the statement together.
        return Meaning.BAD_DATA if isinstance(error, psycopg.DataError) else Meaning.REFUSED
    if state == "25006":
        return Meaning.NOT_HERE
    if state == "55P03" and "cos_lock_shards" in (error.diag.context or ""):
        return Meaning.BLOCKED
    if state[:2] == "40":
        return Meaning.TORN
    return Meaning.BAD_DATA if state[:2] in _BAD_DATA_CLASSES else Meaning.REFUSED


def may_be_of_session(error: BaseException, meaning: Meaning) -> bool:
    """
    Whether the session, or its server, may be at fault, so that it may go better over another connection.

    To connect costs a server far more than what it refused; it would be asked to with each refusal.
    """
    if meaning is Meaning.REFUSED:
        return not (isinstance(error, psycopg.Error) and error.sqlstate in _WHOEVER_ASKS)
    return meaning in (Meaning.LOST, Meaning.NOT_HERE)


def _is_usable(connection: Connection) -> bool:
    pgconn = connection.pgconn
    return pgconn.status == ConnStatus.OK and pgconn.transaction_status == TransactionStatus.IDLE
