"""Settings in the journal's own terms."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cos_ray.bootstrap.database import external_database, retention_of, uses_of
from cos_ray.config.read_sides import ReadSideConfig, read_sides_from
from cos_ray.config.settings import Settings
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.retention import Retention
from cos_ray.postgres.rights import Use


def read_sides(*ids: str, **more: str) -> tuple[ReadSideConfig, ...]:
    told = {"COS_READ_SIDE_ENABLED": "true"}
    for id_ in ids:
        told |= {f"COS_READ_SIDE_CONFIG__HOST__{id_}": "h", f"COS_READ_SIDE_CONFIG__PORT__{id_}": "1"}
    return read_sides_from(told | {f"COS_READ_SIDE_CONFIG__{name}": value for name, value in more.items()})


def test_by_default_snapshots_are_as_in_chief_of_state_and_nothing_is_deleted() -> None:
    retention = retention_of(Settings(), ())
    assert retention == Retention(100, 2, deletes_events=False, delete_after=timedelta(seconds=30))


def test_snapshots_can_be_turned_off() -> None:
    told = {"COS_DISABLE_SNAPSHOT": "true", "COS_JOURNAL_LOGICAL_DELETION": "true"}
    assert retention_of(Settings.from_environment(told), ()) is None


def test_every_configured_read_side_is_waited_for_even_one_that_does_not_run() -> None:
    configured = read_sides("a", "b", "c", ENABLED__b="false", AUTO_START__c="false")
    told = {"COS_JOURNAL_LOGICAL_DELETION": "true", "COS_SNAPSHOT_FREQUENCY": "10"}
    retention = retention_of(Settings.from_environment(told), configured)
    assert retention is not None
    assert (retention.deletes_events, retention.frequency) == (True, 10)
    assert sorted(retention.read_sides) == ["a", "b", "c"]


def test_events_stay_longer_than_any_command_lives() -> None:
    retention = retention_of(Settings.from_environment({"COS_COMMAND_HANDLER_TIMEOUT": "120"}), ())
    assert retention is not None
    assert retention.delete_after > timedelta(seconds=120)


def test_a_database_that_is_not_named_is_no_external_one() -> None:
    with pytest.raises(ConfigurationError, match="COS_DB_HOST is not set"):
        external_database(Settings().database)


def test_an_external_database_is_as_configured() -> None:
    told = {"COS_DB_HOST": "h", "COS_DB_SCHEMA": "s", "COS_DB_USER": "u", "COS_DB_POOL_MAX_SIZE": "3"}
    database = external_database(Settings.from_environment(told).database)
    assert (database.host, database.schema, database.user, database.pool_max_size) == ("h", "s", "u", 3)


def test_only_rights_for_what_is_configured_are_asked_for() -> None:
    assert uses_of(Settings(), ()) == {Use.SERVING, Use.SNAPSHOTS}
    told = {
        "COS_JOURNAL_LOGICAL_DELETION": "true",
        "COS_ERASURE_ENABLED": "true",
    }
    everything = uses_of(Settings.from_environment(told), read_sides("a"))
    assert everything == set(Use)
    assert uses_of(Settings.from_environment(told | {"COS_DISABLE_SNAPSHOT": "true"}), ()) == {
        Use.SERVING,
        Use.ERASURE,
    }
