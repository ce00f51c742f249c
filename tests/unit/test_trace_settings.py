"""When traces are on, by OpenTelemetry's own variables, and what a wrong one is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from cos_ray.bootstrap.configuration import checked
from cos_ray.config.settings import Settings
from cos_ray.config.trace_settings import trace_variables
from cos_ray.domain.errors import ConfigurationError
from cos_ray.telemetry import traces as module

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
HANDLER = {"COS_WRITE_SIDE_HOST": "h", "COS_WRITE_SIDE_PORT": "50051"}


def variables(told: dict[str, str]) -> dict[str, str] | None:
    return trace_variables(Settings.from_environment(told).traces, told, "bank")


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"OTEL_SERVICE_NAME": "bank", "OTEL_PROPAGATORS": "b3", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_JAVAAGENT_ENABLED": "false"},
    ],
)
def test_traces_are_off_unless_something_says_where_to(told: dict[str, str]) -> None:
    assert variables(told) is None


@pytest.mark.parametrize(
    "told",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_JAVAAGENT_ENABLED": "true"},
    ],
)
def test_traces_are_on_where_a_variable_says_so(told: dict[str, str]) -> None:
    assert variables(told) is not None


def test_the_library_is_given_all_of_its_variables_and_nothing_else() -> None:
    told = {**ENDPOINT, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SPAN_EVENT_COUNT_LIMIT": "", "PATH": "/bin"}
    assert variables(told) == {
        **ENDPOINT,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "bank",
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        "OTEL_TRACES_SAMPLER_ARG": "1.0",
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    }


def test_a_name_among_the_attributes_is_a_name() -> None:
    told = {**ENDPOINT, "OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=till"}
    assert "OTEL_SERVICE_NAME" not in (variables(told) or {})


def test_the_variables_may_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cos.yaml"
    file.write_text("OTEL_EXPORTER_OTLP_ENDPOINT: http://collector:4317\nOTEL_TRACES_SAMPLER_ARG: 0.1\n")
    found = checked({**HANDLER, "COS_CONFIG": str(file)}).traces
    assert found is not None
    assert dict(found.variables)["OTEL_TRACES_SAMPLER_ARG"] == "0.1"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "one of otlp, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "one of grpc, http/protobuf"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", "a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "a number from 0 to 1"),
        ("OTEL_PROPAGATORS", "jaeger", "one or several of tracecontext, baggage, b3, b3multi, none"),
        ("OTEL_PROPAGATORS", ",", "one or several of tracecontext, baggage, b3, b3multi, none"),
    ],
)
def test_a_wrong_variable_stops_the_start(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        Settings.from_environment({variable: value})
    assert str(wrong.value) == f"{variable} is {value!r}; allowed: {allowed}"


@pytest.mark.parametrize(
    ("protocol", "package"),
    [
        ("grpc", "opentelemetry-exporter-otlp-proto-grpc"),
        ("http/protobuf", "opentelemetry-exporter-otlp-proto-http"),
    ],
)
def test_without_the_package_the_start_is_refused_in_a_line(
    protocol: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked({**HANDLER, **ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}).traces
    monkeypatch.setattr(module, "_is_there", lambda name: False)
    with pytest.raises(ConfigurationError) as wrong:
        checked({**HANDLER, **ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    (line,) = str(wrong.value).splitlines()
    assert package in line
    assert checked(HANDLER).traces is None


def test_keys_of_the_collector_are_shown_nowhere() -> None:
    told = {**HANDLER, **ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret"}
    assert "s3cret" not in repr(checked(told))
