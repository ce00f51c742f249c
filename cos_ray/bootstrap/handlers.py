"""
Handlers, in the processes that call them.

Each kind's library is imported for that kind only: an entity's process must start fast.
"""

from __future__ import annotations

from datetime import timedelta

from typing_extensions import assert_never

from cos_ray.domain.circuit import BreakerPolicy
from cos_ray.handlers.targets import GrpcTarget, HttpTarget, PythonTarget, WriteTarget
from cos_ray.ports import WriteHandler
from cos_ray.system_clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import breaker_gauge


def build_write_handler(
    target: WriteTarget, call_timeout: timedelta, breaker: BreakerPolicy | None, meters: Meters
) -> WriteHandler:
    """The write handler at the target, behind a breaker if there is to be one."""
    handler = _write_handler(target, call_timeout)
    # Also without a breaker, for then it is never open.
    changed = breaker_gauge(meters, "write side")
    if breaker is None:
        return handler
    from cos_ray.handlers.breaker import Breaker, GuardedWriteHandler

    guard = Breaker(str(target), breaker, SystemClock(), changed)
    return GuardedWriteHandler(handler, guard)


def module_of(target: WriteTarget) -> str:
    """The module that calls such a handler, for workers to import before they are needed."""
    match target:
        case GrpcTarget():
            return "cos_ray.handlers.grpc_write"
        case HttpTarget():
            return "cos_ray.handlers.http_write"
        case PythonTarget():
            return "cos_ray.handlers.python_write"
        case unreachable:
            assert_never(unreachable)


def _write_handler(target: WriteTarget, call_timeout: timedelta) -> WriteHandler:
    match target:
        case GrpcTarget():
            from cos_ray.handlers.grpc_write import GrpcWriteHandler

            return GrpcWriteHandler(target, call_timeout)
        case HttpTarget():
            from cos_ray.handlers.http_write import HttpWriteHandler

            return HttpWriteHandler(target, call_timeout)
        case PythonTarget():
            from cos_ray.handlers.python_write import python_write_handler

            return python_write_handler(target, call_timeout)
        case unreachable:
            assert_never(unreachable)
