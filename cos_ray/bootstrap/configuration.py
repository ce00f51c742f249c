"""The configuration as a whole: checked, so that whoever starts a service can go by it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cos_ray.config.environment import file_of, with_file
from cos_ray.config.read_sides import ReadSideConfig, read_sides_from
from cos_ray.config.serving import contradictions, missing, notices, unsupported
from cos_ray.config.settings import Settings
from cos_ray.config.trace_settings import trace_variables
from cos_ray.domain.errors import ConfigurationError
from cos_ray.telemetry.traces import TraceSettings

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that `serve` goes by."""

    settings: Settings
    read_sides: Sequence[ReadSideConfig]
    traces: TraceSettings | None
    """None: traces are off."""
    notices: tuple[str, ...]
    """What to tell about variables that have no effect."""

    def log_notices(self) -> None:
        """Log each notice on a line of its own."""
        for notice in self.notices:
            logger.warning(notice)


def checked(environment: Mapping[str, str]) -> Configuration:
    """
    The configuration, if `serve` can go by it.

    Raises ConfigurationError with a line for each variable that is wrong, missing, or asks for
    what this release cannot do.
    """
    told = with_file(environment)
    wrong = missing(told)
    settings = _collecting(wrong, lambda: Settings.from_environment(told))
    read_sides = _collecting(wrong, lambda: read_sides_from(told))
    traces = None if settings is None else _traces(settings, told)
    if traces is not None and (fault := traces.fault()) is not None:
        wrong.append(fault)
    if settings is not None:
        wrong += unsupported(settings) + contradictions(settings, told) + _faults_of_handlers(settings)
        wrong += _faults_of_ingress_settings(settings)
    if read_sides is not None:
        wrong += _faults_of_read_handlers(read_sides)
    if settings is None or read_sides is None or wrong:
        raise ConfigurationError("\n".join(wrong))
    return Configuration(settings, read_sides, traces, tuple(notices(told, file_of(told))))


def _traces(settings: Settings, told: Mapping[str, str]) -> TraceSettings | None:
    variables = trace_variables(settings.traces, told, settings.service.name)
    return None if variables is None else TraceSettings(tuple(sorted(variables.items())))


def _faults_of_handlers(settings: Settings) -> list[str]:
    """What is wrong with the files and the class that the way to handlers needs."""
    from cos_ray.bootstrap.endpoints import faults_of_tls, write_target
    from cos_ray.handlers.endpoints import PythonEndpoint

    faults = [
        fault
        for group in (settings.write_side, settings.read_sides, settings.listeners, settings.internal_tls)
        for fault in faults_of_tls(group)
    ]
    if settings.write_side.handler is not None:
        from cos_ray.handlers.python_application import fault_of

        target = write_target(settings)
        assert isinstance(target, PythonEndpoint)
        faults += [fault] if (fault := fault_of(target)) else []
    return faults


def _faults_of_ingress_settings(settings: Settings) -> list[str]:
    """What is wrong with the files that the ingress needs."""
    if not settings.service.descriptor_sets and settings.admission.auth_file is None:
        return []  # what it takes to look at them takes time to import
    from cos_ray.bootstrap.ingress_settings import faults_of_ingress_settings

    return list(faults_of_ingress_settings(settings))


def _faults_of_read_handlers(read_sides: Sequence[ReadSideConfig]) -> list[str]:
    """What is wrong with the classes that are to run inside read sides."""
    from cos_ray.bootstrap.endpoints import python_read_target

    targets = [python_read_target(config) for config in read_sides if config.handler and config.enabled]
    if not targets:
        return []
    from cos_ray.handlers.python_application import READ_SIDE, fault_of

    return [fault for target in targets if (fault := fault_of(target, READ_SIDE))]


def _collecting(wrong: list[str], build: Callable[[], T]) -> T | None:
    """What `build` makes; or None, with its complaints added to those already found."""
    try:
        return build()
    except ConfigurationError as error:
        wrong.append(str(error))
        return None
