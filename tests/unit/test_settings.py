"""The settings: defaults, kinds of values, what a wrong one is answered with."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import timedelta

import pytest

from cos_ray.config.description import described
from cos_ray.config.serving import contradictions, known_variables, missing, notices, unsupported
from cos_ray.config.settings import LogStyle, Placement, ServerProtocol, Settings
from cos_ray.config.values import duration, duration_text
from cos_ray.domain.errors import ConfigurationError

RENAMES = "pairs old.Name=new.Name separated by commas: the full names of two types, the old one first"
WRONG_RENAMES = (
    "a.A",
    "a.A=",
    "=a.A",
    "a.A=a.A",
    "a.A=b.B=c.C",
    "x/a.A=b.B",
    "a.A->b.B",
    "a.A=b.B,b B=c",
    "ä=b",
)

CONTRACT = {
    "COS_ADDRESS": "0.0.0.0",
    "COS_PORT": "9000",
    "COS_HTTP_ADDRESS": "",
    "COS_HTTP_PORT": "9001",
    "COS_SERVER_PROTOCOL": "grpc",
    "COS_SERVICE_NAME": "chiefofstate",
    "COS_DB_HOST": "",
    "COS_DB_PORT": "5432",
    "COS_DB_NAME": "postgres",
    "COS_DB_SCHEMA": "public",
    "COS_DB_USER": "postgres",
    "COS_DB_PASSWORD": "******",
    "COS_DB_PASSWORD_FILE": "",
    "COS_DB_POOL_MAX_SIZE": "5",
    "COS_DB_POOL_MIN_IDLE_CONNECTIONS": "1",
    "COS_DB_POOL_IDLE_TIMEOUT_MS": "60000",
    "COS_DB_POOL_MAX_LIFETIME_MS": "120000",
    "COS_DB_SSLMODE": "prefer",
    "COS_DB_SSLROOTCERT": "",
    "COS_DB_SSLCERT": "",
    "COS_DB_SSLKEY": "",
    "COS_COMMAND_HANDLER_TIMEOUT": "5",
    "COS_GRPC_CALLS_TIMEOUT": "60000",
    "COS_GRPC_KEEPALIVE_ENABLED": "false",
    "COS_GRPC_KEEPALIVE_TIME": "120s",
    "COS_GRPC_KEEPALIVE_TIMEOUT": "60s",
    "COS_GRPC_KEEPALIVE_WITHOUT_CALLS": "true",
    "COS_GRPC_CLIENT_POOL_SIZE": "1",
    "COS_HANDLER_MAX_MESSAGE_BYTES": "33554432",
    "COS_NUM_SHARDS": "",
    "COS_SNAPSHOT_FREQUENCY": "100",
    "COS_NUM_SNAPSHOTS_TO_RETAIN": "2",
    "COS_DISABLE_SNAPSHOT": "false",
    "COS_JOURNAL_LOGICAL_DELETION": "false",
    "COS_ENCRYPTION_CLASS": "",
    "COS_WRITE_SIDE_HOST": "",
    "COS_WRITE_SIDE_PORT": "",
    "COS_WRITE_SIDE_PROTOCOL": "grpc",
    "COS_WRITE_SIDE_USE_TLS": "false",
    "COS_WRITE_SIDE_TLS_CA_FILE": "",
    "COS_WRITE_SIDE_TLS_CERT_FILE": "",
    "COS_WRITE_SIDE_TLS_KEY_FILE": "",
    "COS_WRITE_SIDE_TLS_SERVER_NAME": "",
    "COS_WRITE_SIDE_PROTO_VALIDATION": "false",
    "COS_WRITE_SIDE_EVENT_PROTOS": "",
    "COS_WRITE_SIDE_STATE_PROTOS": "",
    "COS_WRITE_SIDE_PROPAGATED_HEADERS": "",
    "COS_WRITE_PERSISTED_HEADERS": "",
    "COS_WRITE_SIDE_BREAKER_ENABLED": "false",
    "COS_WRITE_SIDE_BREAKER_MAX_FAILURES": "5",
    "COS_WRITE_SIDE_BREAKER_CALL_TIMEOUT": "60s",
    "COS_WRITE_SIDE_BREAKER_RESET_TIMEOUT": "1m",
    "COS_READ_SIDE_ACTORS": "1",
    "COS_READ_SIDE_TLS_CA_FILE": "",
    "COS_READ_SIDE_TLS_CERT_FILE": "",
    "COS_READ_SIDE_TLS_KEY_FILE": "",
    "COS_READ_SIDE_TLS_SERVER_NAME": "",
    "COS_READ_SIDE_BREAKER_ENABLED": "false",
    "COS_READ_SIDE_BREAKER_MAX_FAILURES": "5",
    "COS_READ_SIDE_BREAKER_CALL_TIMEOUT": "10s",
    "COS_READ_SIDE_BREAKER_RESET_TIMEOUT": "1m",
    "COS_SUBSCRIPTION_ENABLED": "false",
    "COS_MAX_SUBSCRIPTIONS": "5000",
    "COS_MAX_SUBSCRIPTIONS_PER_CLIENT": "1000",
    "COS_SUBSCRIPTION_WAITING_EVENTS": "1000",
    "COS_MAX_REQUEST_BYTES": "33554432",
    "COS_MAX_METADATA_BYTES": "16384",
    "COS_MAX_REQUESTS_PER_SECOND": "",
    "COS_AUTH_FILE": "",
    "COS_ERASURE_ENABLED": "false",
    "LOG_LEVEL": "INFO",
    "LOG_STYLE": "JSON",
    "OTEL_JAVAAGENT_ENABLED": "",
    "OTEL_SDK_DISABLED": "false",
    "OTEL_TRACES_EXPORTER": "",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "",
    "OTEL_EXPORTER_OTLP_HEADERS": "",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "",
    "OTEL_TRACES_SAMPLER": "parentbased_always_on",
    "OTEL_TRACES_SAMPLER_ARG": "1.0",
    "OTEL_PROPAGATORS": "tracecontext,baggage",
    "OTEL_SERVICE_NAME": "",
    "OTEL_RESOURCE_ATTRIBUTES": "",
    "RAY_ADDRESS": "",
    "COS_ENTITY_PLACEMENT": "dedicated",
    "COS_MAX_LIVE_ENTITY_ACTORS": "",
    "COS_AUTO_MAX_CPU_PERCENT": "85",
    "COS_INGRESS_LISTENER": "replicas",
    "COS_MAX_CONNECTIONS": "10000",
    "COS_MAX_CONNECTIONS_PER_ADDRESS": "5000",
    "COS_MAX_STREAMS_PER_CONNECTION": "1000",
    "COS_HEADER_TIMEOUT": "10s",
    "COS_BODY_TIMEOUT": "60s",
    "COS_CONNECTION_IDLE_TIMEOUT": "5m",
    "COS_MAX_CONNECTION_AGE": "1m",
    "COS_UNREAD_TIMEOUT": "30s",
    "COS_ALLOW_COMPRESSION": "false",
    "COS_INTERNAL_TLS_CA_FILE": "",
    "COS_INTERNAL_TLS_CERT_FILE": "",
    "COS_INTERNAL_TLS_KEY_FILE": "",
    "COS_TLS_CERT_FILE": "",
    "COS_TLS_KEY_FILE": "",
    "COS_TLS_CLIENT_CA_FILE": "",
    "COS_TLS_MIN_VERSION": "1.2",
    "COS_INGRESS_DRAIN_DELAY": "",
    "COS_INGRESS_REPLICAS": "1",
    "COS_INGRESS_MAX_REPLICAS": "",
    "COS_SHARD_ACTORS": "",
    "COS_SHARD_MAX_ENTITIES": "100000",
    "COS_SHARD_MAX_BYTES": "536870912",
    "COS_PASSIVATION_IDLE_AFTER": "2m",
    "COS_TYPE_CHANGES": "",
    "COS_TYPE_RENAMES": "",
    "COS_WRITE_SIDE_HANDLER": "",
    "COS_IDEMPOTENCY_TTL": "24h",
    "COS_MAX_WAITING_COMMANDS": "500",
    "COS_MAX_COMMANDS": "5000",
    "COS_DATA_DIR": "",
    "COS_METRICS_PORT": "",
    "COS_DESCRIPTOR_SETS": "",
}
"""Every variable with the default the contract gives it; blank: none."""

TARGET = {"COS_WRITE_SIDE_HOST": "localhost", "COS_WRITE_SIDE_PORT": "50051"}


def complaint(variable: str, value: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({variable: value})
    return str(caught.value)


def test_every_variable_of_the_contract_is_known_and_no_other() -> None:
    assert {row.variable for row in described(Settings(), {})} == set(CONTRACT)


def test_nothing_set_means_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(("variable", "default"), [(v, d) for v, d in CONTRACT.items() if d and "*" not in d])
def test_the_default_is_the_contract_s(variable: str, default: str) -> None:
    assert Settings.from_environment({variable: default}) == Settings()


@pytest.mark.parametrize("variable", [variable for variable, default in CONTRACT.items() if not default])
def test_what_has_no_default_shows_none(variable: str) -> None:
    (row,) = (row for row in described(Settings(), {}) if row.variable == variable)
    assert (row.value, row.default, row.source) == ("", "", "default")


def test_the_default_password_is_cos_s() -> None:
    assert Settings().database.password.get_secret_value() == "changeme"


def test_every_variable_says_what_it_means() -> None:
    assert all(
        row.meaning.endswith((".", "(CoS: localhost).", "(CoS: DEBUG).")) for row in described(Settings(), {})
    )


A_HOST = "a host name or an IP address, without a scheme or a port"
A_DATABASE_HOST = "a host name, an IP address or a socket folder; leave it out for the embedded database"
A_NAME = "a name of 1 to 63 bytes in UTF-8, without control characters"
A_SCHEMA = (
    "a schema's name of 1 to 63 bytes in UTF-8, without control characters, and none of PostgreSQL's own "
    "(pg_..., information_schema)"
)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("COS_PORT", "0", "a whole number from 1 to 65535"),
        ("COS_PORT", "65536", "a whole number from 1 to 65535"),
        ("COS_HTTP_PORT", "http", "a whole number from 1 to 65535"),
        ("COS_WRITE_SIDE_PORT", "", "a whole number from 1 to 65535"),
        ("COS_DB_PORT", "-1", "a whole number from 1 to 65535"),
        ("COS_HTTP_PORT", "9000", "another port than COS_PORT"),
        ("COS_METRICS_PORT", "9001", "another port than COS_PORT and COS_HTTP_PORT"),
        ("COS_INGRESS_LISTENER", "haproxy", "one of replicas, serve"),
        ("COS_NUM_SHARDS", "0", "a whole number from 1 to 10000"),
        ("COS_NUM_SHARDS", "10001", "a whole number from 1 to 10000"),
        ("COS_SHARD_ACTORS", "1.5", "a whole number from 1 to 10000"),
        ("COS_DB_POOL_MAX_SIZE", "0", "a whole number from 1 to 1000"),
        ("COS_WRITE_SIDE_BREAKER_MAX_FAILURES", "101", "a whole number from 1 to 100"),
        ("COS_SNAPSHOT_FREQUENCY", "never", "a whole number from 1 to 1000000"),
        ("COS_ENTITY_PLACEMENT", "pinned", "one of dedicated, sharded, auto"),
        ("COS_SERVER_PROTOCOL", "rest", "one of grpc, http, both"),
        ("COS_WRITE_SIDE_PROTOCOL", "both", "one of grpc, http"),
        ("COS_DB_SSLMODE", "on", "one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARN, ERROR"),
        ("LOG_STYLE", "", "one of JSON, STANDARD, SIMPLE"),
        ("COS_WRITE_SIDE_USE_TLS", "maybe", "true or false"),
        ("OTEL_JAVAAGENT_ENABLED", "1", "true or false"),
        ("COS_TYPE_CHANGES", "ignore", "one of refuse, warn, allow"),
        *(("COS_TYPE_RENAMES", wrong, RENAMES) for wrong in WRONG_RENAMES),
        ("COS_PASSIVATION_IDLE_AFTER", "120", "a duration such as 500ms, 10s, 1m or 1h"),
        ("COS_PASSIVATION_IDLE_AFTER", "2 minutes", "a duration such as 500ms, 10s, 1m or 1h"),
        ("COS_PASSIVATION_IDLE_AFTER", "0s", "a duration such as 500ms, 10s, 1m or 1h"),
        ("COS_PASSIVATION_IDLE_AFTER", "9" * 40 + "h", "a duration such as 500ms, 10s, 1m or 1h"),
        (
            "COS_COMMAND_HANDLER_TIMEOUT",
            "-5",
            "a number of seconds, or a duration such as 500ms, 10s, 1m or 1h",
        ),
        (
            "COS_GRPC_CALLS_TIMEOUT",
            "soon",
            "a number of milliseconds, or a duration such as 500ms, 10s, 1m or 1h",
        ),
        ("COS_WRITE_SIDE_HOST", "http://h:1", "a host name or an IP address, without a scheme or a port"),
        ("COS_WRITE_SIDE_HOST", "handler:9000", "a host name or an IP address, without a scheme or a port"),
        ("COS_ADDRESS", " ", "a host name or an IP address, without a scheme or a port"),
        ("COS_DB_HOST", "", A_DATABASE_HOST),
        *(
            ("COS_DB_HOST", host, A_DATABASE_HOST)
            for host in ("${HOST}", "'db'", "*", "a,b", "db/", "bücher")
        ),
        *(("COS_WRITE_SIDE_HOST", host, A_HOST) for host in ("${HOST}", "h..i", "h" * 64, "[::1]", "a@b")),
        ("COS_DB_NAME", "", A_NAME),
        # PostgreSQL would cut them: bytes count, not characters.
        ("COS_DB_NAME", "n" * 64, A_NAME),
        ("COS_DB_USER", "ü" * 32, A_NAME),
        ("COS_DB_USER", "a\0b", A_NAME),
        ("COS_DB_SCHEMA", "s" * 64, A_SCHEMA),
        ("COS_DB_SCHEMA", "ü" * 32, A_SCHEMA),
        ("COS_DB_SCHEMA", "a\nb", A_SCHEMA),
        ("COS_DB_SCHEMA", "pg_catalog", A_SCHEMA),
        ("COS_DB_SCHEMA", "information_schema", A_SCHEMA),
        ("COS_PORT", "9_000", "a whole number from 1 to 65535"),
        ("COS_PORT", "9000.0", "a whole number from 1 to 65535"),
        ("COS_NUM_SHARDS", "1_6", "a whole number from 1 to 10000"),
        ("COS_WRITE_SIDE_HANDLER", "bank.Handler", "package.module:Class"),
        (
            "COS_SERVICE_NAME",
            "my bank",
            "at most 100 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
        ),
        (
            "COS_WRITE_PERSISTED_HEADERS",
            "x-a, x b",
            "header names separated by commas, each of letters, digits, dots, hyphens and underscores",
        ),
        ("COS_DATA_DIR", "", "a folder's path"),
        ("COS_DB_PASSWORD_FILE", "/none", "a text file (no such file or directory)"),
        ("COS_CONFIG", "/none", "a YAML file (no such file or directory)"),
    ],
)
def test_a_wrong_value_is_answered_with_its_variable_itself_and_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    assert complaint(variable, value) == f"{variable} is {value!r}; allowed: {allowed}"


def test_a_value_with_line_breaks_or_very_long_stays_on_one_short_line() -> None:
    for value in ("a\nb", "9" * 10_000):
        line = complaint("COS_PORT", value)
        assert "\n" not in line
        assert len(line) < 250


def test_all_wrong_variables_are_named_a_line_each() -> None:
    wrong = {"COS_PORT": "x", "COS_DB_PORT": "y", "LOG_LEVEL": "z", "COS_DB_PASSWORD_FILE": "/none"}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(wrong)
    assert {line.split(" ")[0] for line in str(caught.value).splitlines()} == set(wrong)


def test_lower_case_variables_of_others_are_left_alone() -> None:
    assert Settings.from_environment({"port": "x", "name": "y", "service": "z"}) == Settings()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("1h", 3_600_000), ("1.5 S", 1500), (" 2m ", 120_000)],
)
def test_durations_have_a_unit(text: str, milliseconds: int) -> None:
    assert duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("text", ["500ms", "10s", "1m", "24h", "90s", "1500ms"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert duration_text(duration(text)) == text


def test_plain_numbers_count_seconds_or_milliseconds_where_cos_takes_them() -> None:
    calls = Settings.from_environment(
        {"COS_COMMAND_HANDLER_TIMEOUT": "7", "COS_GRPC_CALLS_TIMEOUT": "7"}
    ).calls
    assert (calls.command_timeout, calls.handler_timeout) == (timedelta(seconds=7), timedelta(milliseconds=7))


@pytest.mark.parametrize("text", ["true", "TRUE", "yes", "on"])
def test_true_may_be_said_as_in_cos(text: str) -> None:
    assert Settings.from_environment({"COS_SUBSCRIPTION_ENABLED": text}).subscriptions.enabled


def test_lists_are_trimmed_and_hold_nothing_blank_or_twice() -> None:
    settings = Settings.from_environment({"COS_WRITE_SIDE_PROPAGATED_HEADERS": " b, a-bin,,b , "})
    assert settings.write_side.propagated_headers == ("b", "a-bin")


def test_renames_are_pairs_the_old_name_first() -> None:
    settings = Settings.from_environment({"COS_TYPE_RENAMES": " a.Cart = a.v2.Basket, Old=New ,"})
    assert settings.state_types.pairs == (("a.Cart", "a.v2.Basket"), ("Old", "New"))
    rows = {row.variable: row.value for row in described(settings, {})}
    assert rows["COS_TYPE_RENAMES"] == "a.Cart=a.v2.Basket,Old=New"


def test_choices_may_be_written_in_either_case() -> None:
    settings = Settings.from_environment(
        {"LOG_STYLE": "simple", "COS_SERVER_PROTOCOL": "BOTH", "COS_ENTITY_PLACEMENT": "Sharded"}
    )
    assert settings.logs.style is LogStyle.SIMPLE
    assert settings.service.protocol is ServerProtocol.BOTH
    assert settings.entities.placement is Placement.SHARDED


@pytest.mark.parametrize(
    "host", ["localhost", "10.0.0.1", "::1", "fe80::1", "my_handler.ns.svc.cluster.local", "h"]
)
def test_hosts_are_names_or_addresses(host: str) -> None:
    assert Settings.from_environment({"COS_WRITE_SIDE_HOST": host}).write_side.host == host


@pytest.mark.parametrize("host", ["/var/run/postgresql", "@socket", "db_1.internal.", "fe80::1%eth0"])
def test_a_database_is_reached_by_a_host_or_a_socket(host: str) -> None:
    assert Settings.from_environment({"COS_DB_HOST": host}).database.host == host


@pytest.mark.parametrize("schema", ["ü" * 31, 'a "quoted" one', "PUBLIC", "pgx"])
def test_schemas_may_have_any_name_that_postgres_keeps(schema: str) -> None:
    assert Settings.from_environment({"COS_DB_SCHEMA": schema}).database.schema_name == schema


def test_the_target_of_the_write_side_is_its_host_and_port() -> None:
    assert str(Settings.from_environment(TARGET).write_side.target) == "localhost:50051"
    assert (
        str(Settings.from_environment({**TARGET, "COS_WRITE_SIDE_HOST": "::1"}).write_side.target)
        == "[::1]:50051"
    )
    with pytest.raises(ConfigurationError):
        _ = Settings().write_side.target


def test_serving_needs_a_write_handler() -> None:
    assert missing({}) == [
        "COS_WRITE_SIDE_HOST is not set, but needed: the host of your write handler",
        "COS_WRITE_SIDE_PORT is not set, but needed: the port (1 to 65535) of your write handler",
    ]
    assert missing(TARGET) == []


@pytest.mark.parametrize(
    ("variable", "value", "instead"),
    [
        ("COS_ENCRYPTION_CLASS", "a.B", "leaving it out"),
    ],
)
def test_what_this_release_cannot_do_is_said(variable: str, value: str, instead: str) -> None:
    settings = Settings.from_environment({variable: value})
    assert unsupported(settings) == [
        f"{variable} is {value!r}, which is not available in this release; allowed: {instead}"
    ]


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({}, []),
        (TARGET, []),
        ({**TARGET, "COS_WRITE_SIDE_USE_TLS": "true", "COS_WRITE_SIDE_TLS_CA_FILE": "ca.pem"}, []),
        ({**TARGET, "COS_WRITE_SIDE_TLS_CA_FILE": "ca.pem"}, ["COS_WRITE_SIDE_TLS_CA_FILE"]),
        (
            {"COS_WRITE_SIDE_USE_TLS": "true", "COS_WRITE_SIDE_TLS_KEY_FILE": "key.pem"},
            ["COS_WRITE_SIDE_TLS_KEY_FILE"],
        ),
        ({"COS_READ_SIDE_TLS_CERT_FILE": "cert.pem"}, ["COS_READ_SIDE_TLS_CERT_FILE"]),
        ({"COS_METRICS_PORT": "9002"}, []),
        ({"COS_METRICS_PORT": "9002", "RAY_ADDRESS": "auto"}, ["COS_METRICS_PORT"]),
        (
            {**TARGET, "COS_WRITE_SIDE_HANDLER": "bank:Bank", "COS_WRITE_SIDE_USE_TLS": "false"},
            ["COS_WRITE_SIDE_HOST", "COS_WRITE_SIDE_PORT", "COS_WRITE_SIDE_USE_TLS"],
        ),
    ],
)
def test_what_another_setting_leaves_without_a_meaning_is_said(
    told: Mapping[str, str], named: list[str]
) -> None:
    lines = contradictions(Settings.from_environment(told), told)
    assert [line.split(" ")[0] for line in lines] == named


def test_a_handler_inside_the_service_needs_no_host_and_port() -> None:
    assert missing({"COS_WRITE_SIDE_HANDLER": "bank:Bank"}) == []


def test_the_defaults_ask_for_nothing_this_release_cannot_do() -> None:
    assert unsupported(Settings()) == []


def test_cos_s_variables_for_its_cluster_are_ignored_in_one_line() -> None:
    told = {"POD_IP": "10.0.0.1", "COS_DEPLOYMENT_MODE": "kubernetes", "PATH": "/bin"}
    assert notices(told) == ["accepted and ignored: COS_DEPLOYMENT_MODE, POD_IP"]


def test_an_unknown_variable_is_told_with_the_nearest_that_is_known() -> None:
    assert notices({"COS_WRITESIDE_HOST": "h", "COS_QQQQQQQQ": "1", "COST": "2", "LOG_DIR": "3"}) == [
        "unknown variable COS_QQQQQQQQ",
        "unknown variable COS_WRITESIDE_HOST; did you mean COS_WRITE_SIDE_HOST?",
    ]


def test_in_our_file_every_variable_is_meant_for_us() -> None:
    told = {"PORT": "1", "LOG_LEVEL": "INFO", "OTEL_SERVICE_NAME": "x", "COS_PORTT": "1"}
    assert notices(told, told) == [
        "unknown variable COS_PORTT; did you mean COS_PORT?",
        "unknown variable PORT in the file of COS_CONFIG",
    ]


def test_no_known_variable_is_told_as_unknown() -> None:
    told = dict.fromkeys({*known_variables(), "COS_READ_SIDE_CONFIG__HOST__RS1"}, "")
    assert not any("unknown" in notice for notice in notices(told))


def test_settings_survive_pickling() -> None:
    settings = Settings.from_environment(
        {**TARGET, "COS_DB_PASSWORD": "p", "COS_PASSIVATION_IDLE_AFTER": "1s"}
    )
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().service.port = 1  # type: ignore[misc]
