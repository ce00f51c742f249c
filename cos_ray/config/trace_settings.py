"""
Settings of traces: OpenTelemetry's own variables, with its own names, defaults and meanings.

Those that have few right values are checked here, for the library only logs what it cannot use.
All others that begin with OTEL_ are handed to it as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from cos_ray.config.values import Allowed, Choice, Flag, Group, Text

PREFIX = "OTEL_"


class Exporters(Choice):
    """Where traces go."""

    OTLP = "otlp"
    NONE = "none"


class OtlpProtocol(Choice):
    """How they get there."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


class Sampler(Choice):
    """Which commands are traced."""

    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"
    RATIO = "traceidratio"
    PARENT_OR_ALWAYS_ON = "parentbased_always_on"
    PARENT_OR_ALWAYS_OFF = "parentbased_always_off"
    PARENT_OR_RATIO = "parentbased_traceidratio"


PROPAGATORS = ("tracecontext", "baggage", "b3", "b3multi", "none")
"""Headers in which traces come in and go out."""


def _propagators(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    names = tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip().lower())))
    if not names or not set(PROPAGATORS).issuperset(names):
        raise ValueError("unknown")
    return names


Propagators = Annotated[
    tuple[str, ...],
    BeforeValidator(_propagators),
    Allowed("one or several of " + ", ".join(PROPAGATORS)),
]

Ratio = Annotated[float, Field(ge=0, le=1), Allowed("a number from 0 to 1")]


class Traces(Group):
    """Whether commands are traced, which of them, and where the traces go (OpenTelemetry's variables)."""

    javaagent: Flag | None = Field(None, alias="OTEL_JAVAAGENT_ENABLED")
    """Whether traces are exported; unset: if one of the following says where to (CoS: false)."""
    disabled: Flag = Field(False, alias="OTEL_SDK_DISABLED")
    """Whether nothing of it is done, whatever else is set."""
    exporter: Exporters | None = Field(None, alias="OTEL_TRACES_EXPORTER")
    """How traces leave the service: otlp, or none."""
    endpoint: Text | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """The collector's address (http://localhost:4317, with http/protobuf http://localhost:4318)."""
    traces_endpoint: Text | None = Field(None, alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    """The same for traces alone; over http/protobuf with the path."""
    protocol: OtlpProtocol = Field(OtlpProtocol.GRPC, alias="OTEL_EXPORTER_OTLP_PROTOCOL")
    """How the collector is called."""
    traces_protocol: OtlpProtocol | None = Field(None, alias="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    """The same for traces alone."""
    headers: SecretStr | None = Field(None, alias="OTEL_EXPORTER_OTLP_HEADERS")
    """What is sent along to the collector, key=value, separated by commas; an API key, say."""
    traces_headers: SecretStr | None = Field(None, alias="OTEL_EXPORTER_OTLP_TRACES_HEADERS")
    """The same for traces alone."""
    sampler: Sampler = Field(Sampler.PARENT_OR_ALWAYS_ON, alias="OTEL_TRACES_SAMPLER")
    """Which commands are traced."""
    sampler_argument: Ratio = Field(1.0, alias="OTEL_TRACES_SAMPLER_ARG")
    """With a traceidratio: how many of them, from 0 to 1."""
    propagators: Propagators = Field(("tracecontext", "baggage"), alias="OTEL_PROPAGATORS")
    """The headers in which a trace comes from clients and goes to handlers."""
    service_name: Text | None = Field(None, alias="OTEL_SERVICE_NAME")
    """The service's name in traces; unset: COS_SERVICE_NAME."""
    resource_attributes: Text | None = Field(None, alias="OTEL_RESOURCE_ATTRIBUTES")
    """What else is noted with each trace, key=value, separated by commas."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_blanks(cls, told: Any) -> Any:
        # OpenTelemetry's word on its variables: an empty one counts as none.
        return {name: value for name, value in told.items() if value != ""}

    @property
    def wanted(self) -> bool:
        """Whether traces are to be exported."""
        if self.disabled or self.exporter is Exporters.NONE or self.javaagent is False:
            return False
        return bool(self.javaagent or self.exporter or self.endpoint or self.traces_endpoint)

    @property
    def over_http(self) -> bool:
        """Whether the collector is called over HTTP."""
        return (self.traces_protocol or self.protocol) is OtlpProtocol.HTTP


def trace_variables(traces: Traces, told: Mapping[str, str], service: str) -> dict[str, str] | None:
    """
    The variables by which OpenTelemetry is set up in each process; None if traces are off.

    `service`: the name in traces, unless they say another.
    """
    if not traces.wanted:
        return None
    variables = {name: value for name, value in told.items() if name.startswith(PREFIX) and value}
    attributes = [part.partition("=")[0].strip() for part in (traces.resource_attributes or "").split(",")]
    if traces.service_name is None and "service.name" not in attributes:
        variables["OTEL_SERVICE_NAME"] = service
    # As the library spells them; here they may be written in capitals.
    variables["OTEL_TRACES_SAMPLER"] = traces.sampler.value
    variables["OTEL_TRACES_SAMPLER_ARG"] = str(traces.sampler_argument)
    variables["OTEL_PROPAGATORS"] = ",".join(traces.propagators)
    variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = (
        OtlpProtocol.HTTP if traces.over_http else OtlpProtocol.GRPC
    ).value
    return variables
