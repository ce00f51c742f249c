"""
Traces as configured, the same in every process of the service.

Light to import and to pickle: OpenTelemetry is imported where traces are on, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cos_ray.telemetry.logs import note_in_lines

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing

logger = logging.getLogger(__name__)

_EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}
_B3 = "opentelemetry.propagators.b3"
_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How every process of the service traces; sent to each."""

    variables: tuple[tuple[str, str], ...] = field(repr=False)
    """OpenTelemetry's own, complete; API keys may be among them."""

    def fault(self) -> str | None:
        """Why it cannot be done here, in a line; None if it can."""
        needed = {_B3: "opentelemetry-propagator-b3"}
        exporter = _EXPORTERS[dict(self.variables)[_PROTOCOL]]
        needed[exporter] = exporter.replace(".", "-")
        missing = " ".join(package for module, package in needed.items() if not _is_there(module))
        if not missing:
            return None
        return (
            f"traces are to be exported (OTEL_*), but some packages are not installed: pip install {missing}"
        )

    def apply(self, part: str) -> Tracing | None:
        """
        Set up the traces of this process, `part` of the service; None if that cannot be done.

        The launcher has checked that it can. A node that is not as the launcher's still serves.
        """
        # The library reads its variables there, and a joined cluster's workers have none of them.
        os.environ.update(self.variables)
        try:
            from cos_ray.telemetry.trace_context import ids
            from cos_ray.telemetry.trace_setup import build_tracing

            tracing = build_tracing(dict(self.variables), part)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, commands go on
            # The type alone: what it says may quote the variables.
            logger.error("traces are off in this process", extra={"reason": type(error).__name__})
            return None
        note_in_lines(ids)
        return tracing


def tracing_of(traces: TraceSettings | None, part: str) -> Tracing | None:
    """The traces of this process; None if there are none."""
    return None if traces is None else traces.apply(part)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
